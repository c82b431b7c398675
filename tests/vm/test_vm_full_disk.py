"""A full disk: builds and suspends fail with a clear reason, lose nothing, and work again when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import host
from support.aws import Clients
from support.engines import ENGINE
from support.guests import Gateway, Microvm
from support.images import PROBE_DOCKERFILE, READY_HOOK, Image, ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]

MIB = 1 << 20
DISK_MIB = 4096
BIG_RESERVE_MIB = 1000
NO_RESERVE_MIB = 1 / MIB
"""So little that the disk is full before anything is held up."""

BIG_STEP = """\
FROM emberbox/debian:12
RUN head -c 500000000 /dev/zero > /big
CMD ["true"]
"""
BIG_MEMORY = PROBE_DOCKERFILE.replace(
    'CMD ["perl", "/probe.pl"]', 'CMD ["sh", "-c", "yes | head -c 300000000 > /dev/shm/held; exec perl /probe.pl"]'
)
DOCKERFILES = {"a RUN step": BIG_STEP, "the snapshot": BIG_MEMORY}


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
    server = Server(home, disk_reserve_bytes="1", builds="host")  # what sandboxes are made of would need a larger disk
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
    with path.open("wb") as file, contextlib.suppress(OSError):  # the last few blocks may be needed for the file itself
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
    files = probe_files(DOCKERFILES.get(step, PROBE_DOCKERFILE))
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


# --- guests that write


KEPT = "sha256sum < /data/before && sha256sum < /dev/shm/during"
WRITE = "(dd if=/dev/shm/during of=/data/during bs=1M conv=fsync && touch /dev/shm/done) </dev/null >/dev/null 2>&1 &"


class Writer:
    """A microVM with a file from before, a process from before, and one to be written."""

    def __init__(self, gateway: Gateway, image: Image, size_mib: int) -> None:
        self.microvm = Microvm.launch(gateway, image)
        self.microvm.wait_state("RUNNING")
        self.microvm.shell("head -c 4000000 /dev/urandom > /data/before && sync")
        self.microvm.shell(f"head -c {size_mib << 20} /dev/urandom > /dev/shm/during")
        self.microvm.shell("sleep 12345 </dev/null >/dev/null 2>&1 & echo $! > /dev/shm/pid")
        self.sums = self.microvm.shell(KEPT)
        self.counted = self.microvm.get()["count"]

    def follow(self, gateway: Gateway) -> None:
        """Speak to it through a server that was started meanwhile."""
        endpoint = gateway.clients.microvms.get_microvm(microvmIdentifier=self.microvm.id)["endpoint"]
        self.microvm = Microvm(self.microvm.id, endpoint, gateway, token=self.microvm.token)

    def write(self) -> None:
        """Begin to write the file; the answer may be the last for a while."""
        self.microvm.shell(WRITE)

    def reason(self) -> str:
        """Return its stateReason."""
        return str(self.microvm.describe().get("stateReason") or "")

    def wait_stalled(self) -> None:
        """Wait until GetMicrovm says that it stands still, and why."""
        wait_for(f"{self.microvm.id} stands still", lambda: "stands still" in self.reason())
        assert self.microvm.state() == "RUNNING"
        assert "MiB free" in self.reason()

    def check(self, gateway: Gateway) -> None:
        """See that it goes on with everything that it had, wrote, and was writing."""
        self.follow(gateway)
        wait_for("it goes on", lambda: self.microvm.state() == "RUNNING" and not self.reason())
        wait_for("all is written", lambda: self.microvm.shell_code("test -e /dev/shm/done") == 0)
        assert self.microvm.shell(KEPT) == self.sums
        written = self.microvm.shell("dd if=/data/during bs=1M iflag=direct 2>/dev/null | sha256sum")
        assert written in self.sums
        assert self.microvm.shell_code("kill -0 $(cat /dev/shm/pid)") == 0
        assert self.microvm.get()["count"] == self.counted + 1
        self.microvm.terminate()
        assert self.microvm.wait_ended() == "Success."


def restart(small: Server, reserve_mib: float) -> Gateway:
    """Start the server again with another reserve, after it was killed or stopped."""
    if small.process is not None:
        small.kill()
    small.environment["EMBERBOX_DISK_RESERVE_BYTES"] = str(int(reserve_mib * MIB))
    small.start()
    return Gateway(small, Clients.of(small))


@pytest.fixture(scope="module")
def image(maker: ImageMaker) -> Image:
    return maker.build("writer", probe_files(), hooks=READY_HOOK)


@pytest.fixture
def writers(small: Server, image: Image) -> tuple[Writer, Writer]:
    """Two on a server that does not hold them up in time."""
    gateway = restart(small, NO_RESERVE_MIB)
    return Writer(gateway, image, 40), Writer(gateway, image, 5)


def stall(writers: tuple[Writer, Writer], filler: Path) -> None:
    """Let the first fill the disk, and the second meet that; where guests write to memory alone, let it be full."""
    fill(filler, 20 if ENGINE.stalls else 1)
    for writer in writers:
        writer.write()
        if ENGINE.stalls:
            writer.wait_stalled()


def surprise(small: Server, writers: tuple[Writer, Writer], filler: Path) -> None:
    """Let another program fill the disk so quickly that the server can hold nobody up, and let both meet that."""
    assert small.process is not None
    for writer in writers:
        writer.microvm.shell("timeout 60 sh -c 'while :; do :; done' </dev/null >/dev/null 2>&1 &")
        writer.microvm.shell(f"(sleep 3; {WRITE}) </dev/null >/dev/null 2>&1 &")
    small.process.send_signal(signal.SIGSTOP)
    fill(filler, 0)

    def rest() -> bool:
        before = [cpu_ticks(writer.microvm.vmm_pid) for writer in writers]
        time.sleep(1)
        return before == [cpu_ticks(writer.microvm.vmm_pid) for writer in writers]

    wait_for("both VMMs have stopped their guests", rest)
    small.process.send_signal(signal.SIGCONT)
    for writer in writers:
        writer.wait_stalled()


def cpu_ticks(pid: int) -> int:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_full_disk_freezes_nobody_for_good(writers: tuple[Writer, Writer], filler: Path) -> None:
    """Both stand still and say so; with room again both go on."""
    stall(writers, filler)
    api = writers[1].microvm.api
    with pytest.raises(api.exceptions.ConflictException, match="stands still"):
        writers[1].microvm.suspend()
    filler.unlink()
    for writer in writers:
        writer.check(writer.microvm.gateway)


@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_stands_still_can_be_terminated(small: Server, image: Image, filler: Path, restarted: bool) -> None:
    """Though nothing is left on the disk, and also when the next server has found it; the other one goes on."""
    gateway = restart(small, BIG_RESERVE_MIB)
    writers = Writer(gateway, image, 40), Writer(gateway, image, 5)
    surprise(small, writers, filler)
    if restarted:
        gateway = restart(small, BIG_RESERVE_MIB)
        for writer in writers:
            writer.follow(gateway)
            writer.wait_stalled()
    writers[0].microvm.terminate()
    assert writers[0].microvm.wait_ended() == "Success."
    assert writers[1].microvm.state() == "RUNNING"
    filler.unlink()
    writers[1].check(gateway)


def test_a_stop_with_a_full_disk_loses_nobody(small: Server, writers: tuple[Writer, Writer], filler: Path) -> None:
    """There is no room to suspend them: they run on without a server, and the next one takes them over."""
    for writer in writers:
        writer.microvm.shell("head -c 16000000 /dev/urandom > /dev/shm/more")
    stall(writers, filler)
    pids = [writer.microvm.vmm_pid for writer in writers]
    assert small.process is not None
    small.process.send_signal(signal.SIGTERM)
    assert small.process.wait(120) == 0, small.log_tail()
    small.process = None
    assert all(map(host.is_running, pids))
    filler.unlink()
    gateway = restart(small, NO_RESERVE_MIB)
    for writer, pid in zip(writers, pids, strict=True):
        writer.follow(gateway)
        assert writer.microvm.vmm_pid == pid
        writer.check(gateway)


def test_one_that_stands_still_is_suspended_when_the_server_stops(small: Server, image: Image, filler: Path) -> None:
    """With the write that waits, which is done after the resume."""
    gateway = restart(small, BIG_RESERVE_MIB)
    writers = Writer(gateway, image, 40), Writer(gateway, image, 5)
    surprise(small, writers, filler)
    filler.unlink()
    fill(filler, 300)  # enough to save them, too little for them to go on
    small.stop()
    filler.unlink()
    gateway = restart(small, NO_RESERVE_MIB)
    for writer in writers:
        writer.follow(gateway)
        assert writer.microvm.state() == "SUSPENDED"
        writer.microvm.resume()
        writer.check(gateway)


def test_below_the_reserve_nothing_new_begins(small: Server, maker: ImageMaker, image: Image, filler: Path) -> None:
    """What is refused says why and what to do; who runs goes on as ever."""
    gateway = restart(small, 512)
    clients = gateway.clients
    maker = ImageMaker(clients, small.endpoints["region"])
    running = Microvm.launch(gateway, image)
    running.wait_state("RUNNING")
    fill(filler, 400)
    full = clients.microvms.exceptions.InsufficientCapacityException
    with pytest.raises(full, match=rf"cannot be launched now: the disk of {small.home} has \d+ MiB free and 563 MiB"):
        clients.microvms.run_microvm(imageIdentifier=image.arn)
    with pytest.raises(clients.emberbox.exceptions.InsufficientCapacityException, match="cannot be forked now"):
        clients.emberbox.fork_microvm(microvmIdentifier=running.id)
    refused = maker.start("refused", probe_files(), hooks=READY_HOOK)
    assert maker.wait(refused, 60) == "CREATE_FAILED"
    assert maker.reason(refused) == "DISK_STORAGE_FULL"
    assert "free some space there" in maker.log(refused, "FAILED")[-1]
    assert running.get()["count"] == 1
    filler.unlink()
    maker.delete(refused)
    running.terminate()
    running.wait_ended()


def test_below_half_of_the_reserve_nobody_writes(small: Server, image: Image, filler: Path) -> None:
    """Who does not write goes on as ever; suspends work."""
    gateway = restart(small, 512)
    clients = gateway.clients
    writer = Writer(gateway, image, 40)
    fill(filler, 200)
    wait_for("writes are held up", lambda: "held up" in small.log_tail())
    writer.write()
    assert writer.microvm.get()["count"] == writer.counted + 1
    host_status = clients.emberbox.describe_host()
    assert host_status["diskFreeInBytes"] < host_status["diskReserveInBytes"] // 2
    assert writer.microvm.shell_code("test -e /dev/shm/done") != 0
    assert host_status["diskFreeInBytes"] > 190 * MIB
    waits = "grep -l '^State:.D' /proc/[0-9]*/status"  # a process that cannot be stopped before its write has ended
    wait_for("a process waits for its write", lambda: writer.microvm.shell_code(waits) == 0)
    writer.microvm.suspend()
    writer.microvm.resume()
    more = "dd if=/dev/zero of=/data/more bs=1M count=16 conv=fsync && touch /dev/shm/more"
    writer.microvm.shell(f"({more}) </dev/null >/dev/null 2>&1 &")
    wait_for("a process waits for its write again", lambda: writer.microvm.shell_code(waits) == 0)
    assert writer.microvm.shell_code("test -e /dev/shm/more") != 0
    filler.unlink()
    writer.counted += 1
    writer.check(gateway)


def test_a_build_that_fills_the_disk_is_stopped_and_leaves_nothing(small: Server, filler: Path) -> None:
    """Before the disk is full: whoever runs beside it does not notice."""
    gateway = restart(small, 256)
    maker = ImageMaker(gateway.clients, small.endpoints["region"])
    before = os.statvfs(small.home).f_bfree
    fill(filler, 500)
    steps = "FROM emberbox/debian:12\nRUN fallocate -l 400M /big && sleep 600\n"
    image = maker.start("greedy", probe_files(steps), hooks=READY_HOOK)
    assert maker.wait(image, 200) == "CREATE_FAILED"
    assert maker.reason(image) == "DISK_STORAGE_FULL"
    filler.unlink()
    wait_for("its files are gone", lambda: os.statvfs(small.home).f_bfree > before - 2000)
    maker.delete(image)
