"""A full disk: builds and suspends fail with a clear reason, lose nothing, and work again when there is room."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import host
from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import READY_HOOK, ImageMaker, probe_files
from support.server import Server, make_home

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]

MIB = 1 << 20
DISK_MIB = 2048
BIG_STEP = """\
FROM emberbox/debian:12
RUN head -c 500000000 /dev/zero > /big
CMD ["true"]
"""


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server whose home is on a small disk of its own."""
    home = make_home()
    home.mkdir()
    image = home.parent / "disk"
    with image.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    host.run("mke2fs", "-q", "-t", "ext4", "-m", "0", str(image))
    host.run("mount", "-o", "loop", str(image), str(home))
    server = Server(home)
    try:
        server.start()
        yield server
        server.kill()  # it has had a full disk: the next one finds what it left, and clears it up
        server.start()
        server.stop()
    finally:
        if server.process is not None:
            server.kill()
        for row in host.processes_of(home):
            os.kill(int(row.split()[0]), signal.SIGKILL)
        host.run("umount", "--lazy", str(home))
        shutil.rmtree(home.parent, ignore_errors=True)


@pytest.fixture(scope="module")
def maker(small: Server) -> ImageMaker:
    """Makes images there; the base image is stored, so that what fails later is the build itself."""
    images = ImageMaker(Clients.of(small), small.endpoints["region"])
    images.build("first", probe_files(), hooks=READY_HOOK)
    return images


@pytest.fixture
def filler(small: Server) -> Iterator[Path]:
    """A file to fill the disk with; gone at the end."""
    path = small.home / "filler"
    yield path
    path.unlink(missing_ok=True)


def fill(path: Path, left_mib: int) -> None:
    """Make a file so large that only some MiB are left."""
    status = os.statvfs(path.parent)
    size = status.f_bavail * status.f_frsize - left_mib * MIB
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


@pytest.mark.parametrize(
    ("step", "left_mib"),
    [
        ("a RUN step", 250),
        ("the root file system", 60),
        ("the artifact", 0),
        ("the snapshot", 250),
    ],
)
def test_a_build_on_a_full_disk_says_so(
    small: Server, maker: ImageMaker, filler: Path, step: str, left_mib: int
) -> None:
    """Whichever step meets the full disk, the reason is DISK_STORAGE_FULL and the build's files are gone."""
    files = probe_files(BIG_STEP) if step == "a RUN step" else probe_files()
    artifact = maker.upload(b"\0" * (4 * MIB)) if step == "the artifact" else files
    fill(filler, left_mib + (3 if step == "the artifact" else 0))
    image = maker.start("full", artifact, hooks=READY_HOOK)
    assert maker.wait(image, 200) == "CREATE_FAILED"
    assert maker.reason(image) == "DISK_STORAGE_FULL"
    assert not list((small.home / "builds").iterdir())
    filler.unlink()
    maker.delete(image)


def test_a_suspend_on_a_full_disk_loses_nothing(small: Server, maker: ImageMaker, filler: Path) -> None:
    """It is refused with a clear error, the microVM runs on, and the suspend works when there is room."""
    gateway = Gateway(small, Clients.of(small))
    microvm = Microvm.launch(gateway, maker.build("again", probe_files(), hooks=READY_HOOK))
    microvm.wait_state("RUNNING")
    microvm.shell("head -c 16000000 /dev/urandom > /dev/shm/ballast")  # more than is left, reserved or not
    counted = microvm.get()["count"]
    fill(filler, 1)
    with pytest.raises(microvm.api.exceptions.InternalServerException, match="is still running"):
        microvm.suspend()
    assert microvm.state() == "RUNNING"
    assert microvm.get()["count"] == counted + 1
    filler.unlink()
    microvm.suspend()
    assert microvm.state() == "SUSPENDED"
    microvm.resume()
    assert microvm.get()["count"] == counted + 2
    microvm.terminate()
    assert microvm.wait_ended() == "Success."
