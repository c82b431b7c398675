"""Random operations on many microVMs while the server, VMMs, Envoy and the S3 server are killed, for minutes.

    .venv/bin/python benchmarks/chaos.py [--seed N] [--microvms 20] [--seconds 300] [--workers 6]

Ends with 1, and says what, when a counter is not what it must be or anything is left over. The same seed does the
same operations; how they meet is the machine's.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.chaos import Chaos, ViolationError
from support.server import Server, make_home


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--microvms", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, default=6)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {text}", flush=True)

    server = Server(make_home())
    chaos = Chaos(server, options.seed, options.microvms, options.seconds, options.workers, say)
    try:
        chaos.run()
    except ViolationError as violation:
        print(server.log_tail())
        sys.exit(str(violation))
    finally:
        server.remove()
        print(dict(sorted(chaos.done.items())))
    print("every counter agrees, and nothing is left")


if __name__ == "__main__":
    main()
