"""Whatever a server has started ends with it, also when it is killed in the midst of a build on the host.

Sandboxes have test_vm_sandbox_leftovers.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import host
from support.aws import Clients
from support.images import READY_HOOK, ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import PATIENCE_S, wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="a user's tools have no process namespace to end with"),
]

ENDLESS = """\
FROM emberbox/debian:12
RUN fallocate -l 100M /big && (setsid sleep 54321 &) && sleep 54321
CMD ["true"]
"""


def started_by(pid: int) -> dict[int, str]:
    """Return all processes below one, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    below = {pid}
    while below := {child for child, parent in parents.items() if parent in below}:
        for child in below:
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def wait_busy(server: Server, words: str) -> list[int]:
    """Wait until a tool that a server has started runs something with these words; return what the tool has started."""
    assert server.process is not None
    pid = server.process.pid

    def find() -> list[int]:
        tools = [child for child, line in started_by(pid).items() if "mmdebstrap" in line or "buildah" in line]
        below = {child: line for tool in tools for child, line in started_by(tool).items()}
        return [*tools, *below] if any(words in line for line in below.values()) else []

    return wait_for(words, find)


def wait_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs."""
    wait_for("the tools have ended", lambda: not any(map(host.is_running, pids)))


@pytest.fixture
def bare() -> Iterator[Server]:
    """A server that has no base image yet."""
    home = make_home()
    (home / "base").mkdir(parents=True)
    server = Server(home, builds="host")
    try:
        yield server
    finally:
        server.remove()


def end(server: Server) -> None:
    """Stop it and see that it ends well."""
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0, server.log_tail()
    server.process = None


@pytest.mark.parametrize("ending", [end, Server.kill])
def test_a_server_that_ends_while_it_makes_the_base_image_leaves_nothing(
    bare: Server, ending: Callable[[Server], None]
) -> None:
    """No tool, no mount and no file; when it is killed, files until the next start."""
    bare.start()
    tools = wait_busy(bare, "dpkg --install")
    scratch = (bare.home / "base" / "scratch").readlink()
    assert any(scratch.iterdir())
    ending(bare)
    wait_gone(tools)
    assert not host.mounts_below(scratch)
    if ending is Server.kill:
        bare.start()
    wait_for("its files are gone", lambda: not scratch.exists())


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    server = Server(make_home(), builds="host")
    try:
        server.start()
        yield server
    finally:
        server.remove()


def containers_of(server: Server) -> set[str]:
    """Return the names of the containers in which build steps run."""
    return {path.name for path in server.home.glob("builds/*/containers/runc/*")}


def test_a_server_that_ends_in_the_midst_of_a_step_leaves_nothing(own: Server) -> None:
    """Killed: the step ends, with what it put into the background; the start removes the rest. Stopped: at once."""
    maker = ImageMaker(Clients.of(own), own.endpoints["region"])
    maker.start("endless", probe_files(ENDLESS))
    tools = wait_busy(own, "sleep 54321")
    containers = containers_of(own)
    own.kill()
    wait_gone(tools)
    own.start()  # the build begins again
    tools = wait_busy(own, "sleep 54321")
    containers |= containers_of(own)
    own.stop()
    wait_gone(tools)
    assert not list((own.home / "builds").iterdir())
    for name in containers:
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{name}"))


def test_images_that_may_not_be_whole_are_not_built_upon(own: Server) -> None:
    """The machine stopped before the base image was on stable storage: it is stored again."""
    if own.process is not None:
        own.kill()
    store = own.home / "containers"
    (store / "complete").unlink(missing_ok=True)
    layers = list(store.glob("storage/overlay/*/diff/usr/bin/perl"))
    for perl in layers:
        perl.unlink()
    own.start()
    maker = ImageMaker(Clients.of(own), own.endpoints["region"])
    image = maker.build("whole", probe_files(), hooks=READY_HOOK)
    maker.delete(image)
