"""Hundreds of suspends under a workload of files and a database; afterwards everything is compared byte for byte.

    .venv/bin/python benchmarks/endurance.py [--cycles 300]

The workload (tests/support/endure.py) never syncs and is never told of a suspend. Prints what the suspends cost, by
quarters of the run, and ends with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import shell
from support.aws import Clients
from support.endurance import Workload
from support.guests import Gateway, Microvm
from support.images import READY_HOOK, ImageMaker, example_files
from support.server import Server, make_home

CHECK_EVERY = 10
SAVED = re.compile(r"was suspended in (\d+) ms, (\d+) bytes of memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=300)
    options = parser.parse_args()
    server = Server(make_home())
    try:
        server.start()
        verdict = endure(server, options.cycles)
        show(SAVED.findall(server.log_path.read_text()))
    finally:
        server.remove()
    print(f"{options.cycles} suspends, {verdict['steps']} steps of the workload")
    if verdict["wrong"]:
        sys.exit("\n".join(verdict["wrong"]))
    print("nothing differs")


def endure(server: Server, cycles: int) -> dict[str, object]:
    """Suspend and resume a microVM at work; return the first verdict that finds something, or the last."""
    clients = Clients.of(server)
    images = ImageMaker(clients, server.endpoints["region"])
    image = images.build("endurance", example_files("flask"), hooks=READY_HOOK)
    connectors = shell.ingress(server.endpoints["region"], "HTTP_INGRESS", "SHELL_INGRESS")
    microvm = Microvm.launch(Gateway(server, clients), image, ingressNetworkConnectors=connectors)
    microvm.wait_state("RUNNING")
    work = Workload(microvm)
    began = time.monotonic()
    verdict = work.check()
    for cycle in range(1, cycles + 1):
        microvm.suspend()
        microvm.resume()
        if cycle % CHECK_EVERY == 0 or cycle == cycles:
            verdict = work.check()
            print(f"{time.monotonic() - began:7.1f} s  {cycle} suspends: {verdict}", flush=True)
            if verdict["wrong"]:
                break
    microvm.terminate()
    microvm.wait_ended()
    return verdict


def show(saved: list[tuple[str, str]]) -> None:
    """Print the medians of each quarter: neither time nor bytes may grow with the number of suspends."""
    quarter = max(len(saved) // 4, 1)
    for first in range(0, len(saved), quarter):
        part = saved[first : first + quarter]
        milliseconds = statistics.median(int(ms) for ms, _ in part)
        mebibytes = statistics.median(int(size) for _, size in part) / (1 << 20)
        name = f"suspends {first + 1} to {first + len(part)}"
        print(f"{name:<24}{milliseconds:>8.0f} ms{mebibytes:>8.1f} MiB of memory written (medians)")


if __name__ == "__main__":
    main()
