"""Makes what every server of the tests needs, before several of them would make it side by side.

    .venv/bin/python tests/support/prepare.py

It is kept for later runs (`server.cache`); where it is kept already nothing is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.aws import Clients
from support.images import ALL_HOOKS, ImageMaker, probe_files
from support.server import MADE, Server, cache, make_home, save


def main() -> None:
    """Build an image on a server of its own, and keep what was made for that."""
    if all((cache() / name).exists() for name in (*dict(MADE), "builder")):
        return
    sys.stdout.write("preparing what all servers of the tests need\n")
    sys.stdout.flush()
    with Server(make_home(), engine="qemu").running() as server:  # only that makes a kernel; gVisor comes with a build
        images = ImageMaker(Clients.of(server), server.endpoints["region"])
        images.build("first", probe_files(), hooks=ALL_HOOKS)
        save(server.home)


if __name__ == "__main__":
    main()
