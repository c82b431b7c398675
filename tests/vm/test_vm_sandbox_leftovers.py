"""A server that is killed in the midst of a build in a sandbox leaves nothing that goes on; the next start, nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support import host
from support.aws import Clients
from support.images import ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of builds need networks of their own, which root makes"),
]

ENDLESS = """\
FROM emberbox/debian:12
RUN fallocate -l 100M /big && (setsid sleep 54321 &) && sleep 54321
CMD ["true"]
"""


@pytest.fixture
def own() -> Iterator[Server]:
    server = Server(make_home(), builds="sandbox")
    try:
        server.start()
        yield server
    finally:
        server.remove()


def wait_step(server: Server) -> list[str]:
    """Wait until the step of a build runs; return the processes of its sandbox."""

    def find() -> list[str]:
        (store,) = list(server.home.glob("builds/*/sandbox/gvisor/store")) or [None]
        has_written = store is not None and sum(path.stat().st_blocks * 512 for path in store.iterdir()) > 100 << 20
        return [row for row in host.processes_of(server.home) if "runsc" in row] if has_written else []

    return wait_for("a step runs in a sandbox", find, 300.0)


def test_nothing_of_a_build_outlives_its_server(own: Server) -> None:
    """Killed: the sandbox ends at once, its files go at the next start, which builds again. Stopped: all at once."""
    maker = ImageMaker(Clients.of(own), own.endpoints["region"])
    maker.start("endless", probe_files(ENDLESS))
    assert wait_step(own)
    own.kill()
    wait_for("the sandbox has ended", lambda: not [row for row in host.processes_of(own.home) if "runsc" in row])
    own.start()
    assert wait_step(own)
    own.stop()
    assert not list((own.home / "builds").iterdir())
