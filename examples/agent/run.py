"""An agent that mends a failing test: a candidate fix in each of three forks of one running microVM, side by side."""

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from emberbox_sdk import AsyncClient, AsyncImage, AsyncSandbox, DeadlineError

TESTS = ["python3", "-B", "-m", "unittest", "-v"]
SOURCE = "/srv/project/basket.py"

HEAD = 'def total(prices, discount_percent=0):\n    """Return the sum of the prices less the discount."""\n'
CANDIDATES = {
    "rounds up": HEAD + "    return -(-sum(prices) * (100 - discount_percent) // 100)\n",
    "runs wild": (
        "import os, shutil\n"
        'shutil.rmtree("/srv/project")\n'  # no tests, no failing tests
        'open("/root/claim", "w").write("all tests pass")\n'
        "while True:\n    os.getpid()\n"
    ),
    "whole cents": HEAD + "    whole = sum(prices)\n    return whole - -(-whole * discount_percent // 100)\n",
}
begun = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begun:7.2f} s  {text}", flush=True)


def ask_model(source, failures):
    """Return fixes to try. A model is asked here; this stand-in has its answers ready and reads nothing.

    With a real one: send `source` and `failures` with the wish for several different fixes of the whole file.
    """
    assert "def total" in source
    assert "FAILED" in failures
    return CANDIDATES


async def attempt(name, fork, code, limit_s):
    """Write a fix into one fork and run the tests there; return whether they pass."""
    await fork.files.write(SOURCE, code)
    try:
        result = await fork.run(TESTS, timeout_s=limit_s)
    except DeadlineError:
        say(f"{name}: still running after {limit_s:g} s, given up ({fork.id})")
        return False
    say(f"{name}: {'passes' if result.ok else 'fails'}, {result.stderr.splitlines()[-1]} ({fork.id})")
    return result.ok


async def work(options, client, stack):
    image = await AsyncImage.build(Path(__file__).parent, name="example-agent", client=client)
    say(f"image {image.name} {image.version} is there")
    sandbox = await stack.enter_async_context(await AsyncSandbox.create(image, client=client))
    say(f"{sandbox.id} runs")

    before = await sandbox.run(TESTS)
    say(f"tests: {before.stderr.splitlines()[-1]}")
    fixes = ask_model(await sandbox.files.read(SOURCE), before.stderr)

    forks = dict(zip(fixes, await sandbox.fork(len(fixes)), strict=True))
    kept = None
    try:
        stopped_ms = next(iter(forks.values())).source_stopped_ms
        say(f"{len(forks)} forks run; the source stood still for {stopped_ms} ms")
        attempts = [attempt(name, fork, fixes[name], options.limit) for name, fork in forks.items()]
        passed = dict(zip(forks, await asyncio.gather(*attempts), strict=True))
        kept = next((name for name, good in passed.items() if good), None)
    finally:
        await asyncio.gather(*(fork.terminate() for name, fork in forks.items() if name != kept))
    say(f"{len(forks) - (kept is not None)} forks ended")
    if kept is None:
        raise SystemExit("no fix passes")

    winner = forks[kept]
    try:
        again = await winner.run(TESTS)
        say(f"kept: {kept}, {again.stderr.splitlines()[-1]} ({winner.id})")
        untouched = await sandbox.run(TESTS)
        say(f"source: {untouched.stderr.splitlines()[-1]}, as before the forks ({sandbox.id})")
        print((await winner.files.read(SOURCE)).rstrip())
    finally:
        if not options.keep:
            await winner.terminate()


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=20, help="seconds that one run of the tests may take")
    parser.add_argument("--keep", action="store_true", help="leave the fork with the fix running")
    options = parser.parse_args()
    async with AsyncClient() as client, AsyncExitStack() as stack:
        await work(options, client, stack)


if __name__ == "__main__":
    asyncio.run(main())
