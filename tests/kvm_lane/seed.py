"""What a server needs before its first build, made on this machine: emulated, packages would take very long to install.

That is the guest kernel, and a container store with a Debian base that has the packages of the tests' images
already: the `apt-get install` of their Dockerfiles then finds nothing to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from emberbox.host.kernel import ensure_kernel
from emberbox.images.containers import Containers
from emberbox.images.managed import PACKAGES, ManagedImages
from kvm_lane.machine import run
from support.server import cache_key, seed

TESTS_PACKAGES = ("python3-flask", "nodejs", "node-express", "nginx-light", "python3-pip")


def seed_key() -> str:
    """Return a name for what `make_seed` makes: it changes with what it is made of."""
    return hashlib.sha256("\0".join([cache_key(), Path(__file__).read_text()]).encode()).hexdigest()[:16]


def make_seed(place: Path, say: Callable[[str], None]) -> None:
    """Fill a directory as the cache of the tests is laid out, with a container store besides.

    Args:
        place: the directory.
        say: told what is being done.

    Raises:
        HostError: Debian's packages cannot be fetched, or the base image cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="kvm-lane-", dir="/var/tmp") as name:
        home = Path(name)
        seed(home)
        asyncio.run(_fill(home, say))
        target = place / "emberbox-tests" / cache_key()
        target.mkdir(parents=True)
        for part in ("kernel", "containers"):
            run("cp", "-a", home / part, target / part)


async def _fill(home: Path, say: Callable[[str], None]) -> None:
    await ensure_kernel(home / "kernel")
    containers = Containers(home / "containers")
    try:
        await ManagedImages(containers, home / "own-base", (*PACKAGES, *TESTS_PACKAGES)).ensure_debian(say)
    finally:
        await containers.close()
