"""What a server needs before its first build, made on this machine: emulated twice over it would take an hour.

A server of this checkout is started here, builds the examples once (their packages come from Debian), and is stopped.
Its kernel, base image and container layers are what the servers in the emulated machine begin with.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from kvm_lane.machine import CHECKOUT
from support.aws import Clients
from support.images import READY_HOOK, ImageMaker, example_files
from support.server import Server, cache_key, make_home
from support.waiting import wait_for

EXAMPLES = ("flask", "express")


def seed_key() -> str:
    """Return a name for what `make_seed` makes: it changes with what it is made of."""
    told = [(CHECKOUT / "examples" / name / "Dockerfile").read_text() for name in EXAMPLES]
    return hashlib.sha256("\0".join([cache_key(), *told]).encode()).hexdigest()[:16]


def make_seed(place: Path, say: Callable[[str], None]) -> None:
    """Fill a directory as the cache of the tests is laid out, with container layers besides."""
    server = Server(make_home())
    try:
        server.start()
        maker = ImageMaker(Clients.of(server), server.endpoints["region"])
        say("a server on this machine builds the examples, for their container layers")
        for image in [maker.start(name, example_files(name), hooks=READY_HOOK) for name in EXAMPLES]:
            maker.wait_created(image)
        wait_for("kernel and base image are there", (server.home / "base/debian12.tar").exists, 900)
        server.stop()
        target = place / "emberbox-tests" / cache_key()
        target.mkdir(parents=True)
        for name in ("kernel", "base", "containers"):
            subprocess.run(["cp", "-a", server.home / name, target / name], check=True)
    finally:
        server.remove()
