"""A grid world as a process that keeps its state in memory: walls, coins, a walker, a random generator for the wind."""

import hashlib
import json
import os
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIDE, COINS, STEPS, WIND = 32, 60, 400, 0.1
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
EPISODES = Path("/srv/episodes")


class World:
    def __init__(self, seed):
        self.begin(seed)

    def begin(self, seed):
        self.random = random.Random(seed)
        cells = [(x, y) for x in range(SIDE) for y in range(SIDE)]
        self.random.shuffle(cells)
        self.walker, *rest = cells
        self.coins = set(rest[:COINS])
        self.walls = set(rest[COINS : COINS + SIDE * SIDE // 5])
        self.steps = 0

    def step(self, move):
        """Take a step and return the reward; now and then the wind takes another one."""
        if self.random.random() < WIND:
            move = self.random.choice(MOVES)
        target = ((self.walker[0] + move[0]) % SIDE, (self.walker[1] + move[1]) % SIDE)
        self.steps += 1
        if target in self.walls:
            return -1
        self.walker = target
        if target in self.coins:
            self.coins.remove(target)
            return 10
        return 0

    def digest(self):
        """Return one number for all that the world is, its generator included."""
        state = (self.walker, sorted(self.coins), sorted(self.walls), self.steps, self.random.getstate())
        return hashlib.sha256(repr(state).encode()).hexdigest()[:16]


world = World(0)


def prepare(seed, steps):
    """Bring the world to its start state: what is slow, and done once for all episodes."""
    world.begin(seed)
    for _ in range(steps):
        world.step(world.random.choice(MOVES))
    return look()


def look():
    return {
        "digest": world.digest(),
        "steps": world.steps,
        "episodes": sorted(path.name for path in EPISODES.iterdir()),
    }


def play(seed):
    """Play an episode by the policy of this seed and note it in a file."""
    begin, policy, reward = look(), random.Random(seed), 0
    for _ in range(STEPS):
        reward += world.step(policy.choice(MOVES))
    (EPISODES / f"{seed}.txt").write_text(f"{reward}\n")
    entropy = os.urandom(8).hex()
    return {"seed": seed, "reward": reward, "begin": begin, "end": look(), "entropy": entropy, "pid": os.getpid()}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(look())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"/prepare": prepare, "/play": play}[self.path](**asked))

    def answer(self, found):
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
