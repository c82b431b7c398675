"""A game server whose players are mods of strangers, each in a microVM of its own, within a budget.

python examples/mods/run.py [--ticks 20]
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from pathlib import Path

from emberbox_sdk import AsyncClient, AsyncImage, AsyncSandbox, EmberboxError

HERE = Path(__file__).parent
SIZE = 8
COINS = 12
CHECK_S = 0.5


class Player:
    """A mod, its microVM, and where it stands in the game; `fate` is why it is out of it."""

    def __init__(self, name, sandbox):
        self.name = name
        self.sandbox = sandbox
        self.place = [0, 0]
        self.coins = 0
        self.ticks = 0
        self.first = None
        self.fate = ""

    async def load(self, options):
        source = (HERE / "players" / f"{self.name}.py").read_bytes()
        await self.ask("/mod", options.load_s, content=source)

    async def ask(self, path, limit_s, **more):
        """Return what the mod answers; a mod that does not is out."""
        port = await self.sandbox.url()
        try:
            async with asyncio.timeout(limit_s):
                answer = await port.post(path, timeout=None, **more)
                while answer.status_code == 502 and not self.fate:  # the machine is slow, or `check` finds it ended
                    await asyncio.sleep(0.2)
                    answer = await port.post(path, timeout=None, **more)
        except TimeoutError:
            return await self.end(f"time: nothing in {limit_s:g} s")
        except EmberboxError as error:
            return await self.end(f"crash: {type(error).__name__}")
        return answer if answer.status_code == 200 else await self.end(f"crash: {answer.status_code}")

    async def move(self, coins, options):
        """Ask the mod for its move. What is no step in one direction counts as none."""
        state = {"size": SIZE, "you": self.place, "coins": coins}
        answer = await self.ask("/move", options.move_s, json=state)
        if answer is None:
            return
        self.ticks += 1
        if answer.content in (b"[1, 0]", b"[-1, 0]", b"[0, 1]", b"[0, -1]"):
            step = json.loads(answer.content)
            self.place = [(old + change) % SIZE for old, change in zip(self.place, step, strict=True)]

    async def check(self, usage, options):
        """Hold against its budget what its microVM has used by the server's account, in which the mod has no say."""
        if usage is None:
            return await self.end("crash: its microVM has ended")
        if self.first is None:
            self.first = usage
        more_mib = (usage.memory_bytes - self.first.memory_bytes) >> 20
        more_s = usage.cpu_s - self.first.cpu_s
        if more_mib > options.memory_mib:
            await self.end(f"memory: {more_mib} MiB more than at first")
        elif more_s > options.cpu_s:
            await self.end(f"processor: {more_s:.1f} s")
        return None

    async def end(self, fate):
        if not self.fate:
            self.fate = fate
            await self.sandbox.terminate()


async def check(players, client, options):
    used = {usage.sandbox_id: usage for usage in (await client.host()).sandboxes}
    alive = [player for player in players if not player.fate]
    await asyncio.gather(*(player.check(used.get(player.sandbox.id), options) for player in alive))


async def play(players, client, options):
    rng = random.Random(options.seed)
    coins = [[rng.randrange(SIZE), rng.randrange(SIZE)] for _ in range(COINS)]
    for tick in range(1, options.ticks + 1):
        begun = time.monotonic()
        playing = [player for player in players if not player.fate]
        asking = asyncio.gather(*(player.move(coins, options) for player in playing))
        while not asking.done():
            await asyncio.wait([asking], timeout=CHECK_S)
            await check(playing, client, options)
        for player in playing:
            if not player.fate and player.place in coins:
                player.coins += 1
                coins[coins.index(player.place)] = [rng.randrange(SIZE), rng.randrange(SIZE)]
        print(f"tick {tick:3}  {(time.monotonic() - begun) * 1000:6.0f} ms, {len(playing)} asked")
        for player in playing:
            if player.fate:
                print(f"          {player.name} is out. {player.fate}")


async def main(options):
    async with AsyncClient() as client, contextlib.AsyncExitStack() as stack:

        async def launch(name):
            sandbox = await AsyncSandbox.create(image, max_s=3600, egress=options.egress, client=client)
            return Player(name, await stack.enter_async_context(sandbox))

        begun = time.monotonic()
        image = await AsyncImage.build(HERE, name="example-mods", client=client)
        print(f"image     {image.name} {image.version}, {time.monotonic() - begun:.1f} s")
        begun = time.monotonic()
        players = await asyncio.gather(*(launch(name) for name in options.mods))
        await asyncio.gather(*(player.load(options) for player in players))
        print(f"launch    {len(players)} microVMs with their mods, {time.monotonic() - begun:.1f} s")
        await check(players, client, options)
        await play(players, client, options)
    for player in players:
        print(f"{player.name:9} {player.coins} coins in {player.ticks} moves; {player.fate or 'played to the end'}")
    if options.out:
        facts = ("name", "coins", "ticks", "fate")
        rows = [{**{fact: getattr(p, fact) for fact in facts}, "microvm": p.sandbox.id} for p in players]
        options.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Play a game with mods, each in a microVM of its own.")
    parser.add_argument("mods", nargs="*", default=["walker", "runner", "hanging", "greedy", "crashing"], metavar="MOD")
    parser.add_argument("--ticks", type=int, default=20)
    parser.add_argument("--move-s", type=float, default=30.0, help="that a mod has for a move")
    parser.add_argument("--load-s", type=float, default=30.0, help="that a mod has for its start")
    parser.add_argument("--memory-mib", type=int, default=64, help="that a mod may have beyond what it has at first")
    parser.add_argument("--cpu-s", type=float, default=3.0, help="of a processor that a mod has for the game")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--egress", action="append", metavar="ARN", help="the network connector of mods")
    parser.add_argument("--out", type=Path, help="a file for the result")
    asyncio.run(main(parser.parse_args()))
