"""What a server needs before its first build, made on this machine: emulated, packages would take very long to install.

Guest kernel, base image, and the container layers of the examples (whose packages come from Debian) are what the
servers in the emulated machine begin with.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from emberbox.host.kernel import ensure_kernel
from emberbox.images.containers import BuildNetwork, Containers
from emberbox.images.managed import ManagedImages
from kvm_lane.machine import CHECKOUT, run
from support.server import cache_key, seed

EXAMPLES = ("flask", "express")
BUILD_TIMEOUT_S = 1800


def seed_key(examples: tuple[str, ...]) -> str:
    """Return a name for what `make_seed` makes: it changes with what it is made of."""
    told = [
        path.read_text()
        for path in (Path(__file__), *(CHECKOUT / "examples" / name / "Dockerfile" for name in examples))
    ]
    return hashlib.sha256("\0".join([cache_key(), *told]).encode()).hexdigest()[:16]


def make_seed(place: Path, examples: tuple[str, ...], say: Callable[[str], None]) -> None:
    """Fill a directory as the cache of the tests is laid out, with container layers besides.

    Args:
        place: the directory.
        examples: those whose layers are wanted.
        say: told what is being done.

    Raises:
        HostError: Debian's packages cannot be fetched, or the base image cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="kvm-lane-", dir="/var/tmp") as name:
        home = Path(name)
        seed(home)
        asyncio.run(_fill(home, examples, say))
        target = place / "emberbox-tests" / cache_key()
        target.mkdir(parents=True)
        for part in ("kernel", "base", "containers"):
            run("cp", "-a", home / part, target / part)


async def _fill(home: Path, examples: tuple[str, ...], say: Callable[[str], None]) -> None:
    await ensure_kernel(home / "kernel")
    containers = Containers(home / "containers")
    await ManagedImages(containers, home / "base").ensure_debian(say)
    try:
        for name in examples:
            say(f"building the layers of examples/{name}")
            tag = f"localhost/kvm-lane/{name}"  # as long as it is there its layers stay
            await containers.build(CHECKOUT / "examples" / name, tag, BuildNetwork(), BUILD_TIMEOUT_S, lambda _: None)
    finally:
        await containers.close()
