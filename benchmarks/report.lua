-- Prints wrk's figures as JSON: answers a second, latencies in milliseconds, and what was not a success.
done = function(summary, latency, requests)
    local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status
    print(string.format(
        '{"rate": %f, "median": %f, "p99": %f, "failed": %d}',
        summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        failed + summary.errors.timeout
    ))
end
