"""Envoy's configuration: typed values in, one bootstrap file out.

    client ──TLS──► scrub ──► admissions ──► ext_authz ──► pool key ──► router ──► scrub ──► guest (HTTP/1.1 or h2c)
                                  │             │   ▲
                 like one before? ┘ Unix socket ▼   │ 200 and where to, or the refusal
                                              authoriser

Where a request goes is told by the authoriser alone, in Envoy's dynamic metadata. A header would have to be
guarded against clients and hidden from guests; metadata can be neither sent nor seen from outside.

Facts about Envoy 1.40 that this page rests on, all of them tested:

- an answer 5xx of the authoriser is an error to ext_authz, which answers `status_on_error` with no body: 502;
- what Envoy answers itself when an upstream fails is 503 with a text; `local_reply_config` makes it an empty
  502;
- an ORIGINAL_DST cluster keeps connections per address. A resumed microVM, or another one at the address of a
  dead one, must not get an old connection, so the pool's key has the `incarnation` too.
"""
