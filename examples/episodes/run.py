"""Episodes of reinforcement learning: many forks of one microVM whose environment is in its start state."""

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path

from emberbox_sdk import AsyncClient, AsyncImage, AsyncSandbox

begun = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begun:7.2f} s  {text}", flush=True)


async def ask(sandbox, path, **asked):
    """Ask the environment of a sandbox for something."""
    answer = await (await sandbox.url(8080)).post(path, json=asked, timeout=60)
    answer.raise_for_status()
    return answer.json()


async def play(fork, seed):
    """Let one fork play the episode of this policy, and end it."""
    try:
        return await ask(fork, "/play", seed=seed) | {"microvm": fork.id}
    finally:
        await fork.terminate()


async def play_all(source, count, at_once):
    """Return the results of so many episodes, each played in a fork of its own; and what forking took, in seconds."""
    results, forking_s = [], 0.0
    for first in range(0, count, at_once):
        asked = time.monotonic()
        forks = await source.fork(min(at_once, count - first), timeout_s=600)
        forking_s += time.monotonic() - asked
        results += await asyncio.gather(*(play(fork, first + number) for number, fork in enumerate(forks)))
        say(f"{len(results)} of {count} episodes are played")
    return results, forking_s


def check(results, start):
    """Fail unless every episode began from the start state and saw nothing of the others'."""
    for result in results:
        own = f"{result['seed']}.txt"
        assert result["begin"] == start, f"{result['microvm']} began from another state"
        assert result["end"]["episodes"] == [own], f"{result['microvm']} has files of others"
    assert len({result["entropy"] for result in results}) == len(results), "two forks have the same random numbers"


async def work(options, client):
    image = await AsyncImage.build(Path(__file__).parent, name="example-episodes", client=client)
    say(f"image {image.name} {image.version} is there")
    async with await AsyncSandbox.create(image, client=client) as source:
        start = await ask(source, "/prepare", seed=options.world, steps=options.steps)
        say(f"the environment is in its start state, {start['digest']}, after {start['steps']} steps")

        results, forking_s = await play_all(source, options.forks, options.at_once)
        rate = len(results) / forking_s
        say(f"{len(results)} forks ran {forking_s:.2f} s after they were asked for: {rate:.1f} a second")

        check(results, start)
        assert (await (await source.url(8080)).get("/")).json() == start, "an episode has changed the source"
        say("all began from the same state, each drew random numbers of its own, none saw a file of another")
        rewards = [result["reward"] for result in results]
        say(f"reward {min(rewards)} to {max(rewards)}, {len(Counter(rewards))} different, best is seed {best(results)}")
    if options.results:
        options.results.write_text(json.dumps({"start": start, "results": results}, indent=1))


def best(results):
    return max(results, key=lambda result: result["reward"])["seed"]


async def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forks", type=int, default=100, help="episodes, each in a fork of its own")
    parser.add_argument("--at-once", type=int, default=25, help="how many of them run at the same time, 100 at most")
    parser.add_argument("--steps", type=int, default=100_000, help="of the environment, before it is forked")
    parser.add_argument("--world", type=int, default=1, help="the seed of the grid world")
    parser.add_argument("--results", type=Path, help="a file to write all results into, as JSON")
    options = parser.parse_args()
    async with AsyncClient() as client:
        await work(options, client)


if __name__ == "__main__":
    asyncio.run(main())
