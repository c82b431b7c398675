"""Sends 20,000 and more requests, valid and broken, that Hypothesis makes from the service models, to the API.

    .venv/bin/python benchmarks/fuzz_api.py [--requests 20000]

The API is the real wire layer over the real services and databases, in this process; only microVMs and objects in S3
are missing. Every request is signed. Every answer is held against the model; an answer of 500, an exception in the
log, an undeclared code or a row that never settles ends the run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"


def main() -> None:
    sys.path[:0] = [str(TESTS), str(TESTS / "unit" / "edges")]
    from aws.fuzz import run_fuzzer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="emberbox-fuzz-") as directory:
        fuzzer = run_fuzzer(Path(directory), arguments.requests)
    statuses: Counter[int] = Counter()
    for (_, status), count in fuzzer.answered.items():
        statuses[status] += count
    print(f"{sum(statuses.values())} requests in {time.perf_counter() - started:.0f} s, none answered wrongly")
    for status, count in sorted(statuses.items()):
        print(f"  {status}: {count}")
    reached = {name for name, status in fuzzer.answered if status < 300}
    print(f"{len(reached)} operations answered with success, of {len(fuzzer.operations)}")


if __name__ == "__main__":
    main()
