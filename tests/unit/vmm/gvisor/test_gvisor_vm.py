"""One sandbox of gVisor's: the order of its calls, against a stand-in for the sandbox."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from emberbox import process
from emberbox.host.runsc.control import SandboxError
from emberbox.model.errors import VmmError
from emberbox.process.watched import Child
from emberbox.vmm.base import Saved, VmFiles
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor.files import BASE, OWN, GvisorStates, names_of, saved
from emberbox.vmm.gvisor.start import Restoring
from emberbox.vmm.gvisor.vm import PAUSED, GvisorVm

ENGINE = Engine("gVisor", "20240729.0", "systrap")


class StandIn:
    """Takes the calls of a sandbox; pauses count as gVisor's do.

    Attributes:
        calls: their names, in order.
        failure: what a checkpoint raises, after it has written something.
        gate: a checkpoint waits for it.
        reached: a checkpoint is under way, or was.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failure: SandboxError | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self._pauses = 0

    async def pause(self) -> None:
        self.calls.append("pause")
        self._pauses += 1

    async def unpause(self) -> None:
        self.calls.append("unpause")
        self._pauses -= 1
        assert self._pauses >= 0, "one unpause too many ends the sandbox"

    async def restore(self, *fds: int) -> None:
        self.calls.append("restore " + os.pread(fds[2], 100, 0).decode())

    async def checkpoint(self, *fds: int) -> None:
        self.calls.append("checkpoint")
        self.reached.set()
        for fd in fds:
            os.write(fd, b"saved")
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


class Bench:
    """A VM over a stand-in, with a real process in the keeper's place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.control = StandIn()
        self.keeper: Child | None = None

    async def make(self, restoring: Restoring | None = None, *, booted: bool = True) -> GvisorVm:
        self.keeper = await process.start(["sleep", "60"])
        files = VmFiles(self.directory, self.directory / "root")
        return GvisorVm(self.keeper, self.control, ENGINE, files, restoring, booted=booted)  # type: ignore[arg-type]


def write_base(directory: Path, content: str = "base") -> Saved:
    directory.mkdir()
    for name in BASE.all():
        (directory / name).write_text(content)
    return saved(directory, BASE, ENGINE)


async def test_a_pause_is_asked_for_once_and_known_to_the_next_server(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    vm = await bench.make()
    for _ in range(2):
        await vm.pause()
        assert (tmp_path / PAUSED).exists()
    for _ in range(2):
        await vm.unpause()
        assert not (tmp_path / PAUSED).exists()
    assert bench.control.calls == ["pause", "unpause"]
    await vm.kill()


async def test_saved_state_is_loaded_when_the_guest_is_let_run_and_not_before(tmp_path: Path) -> None:
    """What becomes of the files' names meanwhile is no matter."""
    bench, base = Bench(tmp_path), write_base(tmp_path / "base", "kept")
    vm = await bench.make(Restoring(base), booted=False)
    await vm.pause()
    assert bench.control.calls == []
    for name in BASE.all():
        base.path(name).unlink()
    await vm.unpause()
    await vm.unpause()
    assert bench.control.calls == ["restore kept"]
    await vm.kill()


async def test_one_that_never_ran_is_saved_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    vm = await bench.make(Restoring(write_base(tmp_path / "base")), booted=False)
    written = await vm.save(lambda _saved: None)
    assert bench.control.calls == ["restore base", "pause", "checkpoint"]
    assert written.saved.names == OWN.all()
    await vm.kill()


async def test_a_failed_save_leaves_the_state_of_before_and_nothing_half_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    vm = await bench.make()
    await vm.pause()
    await vm.save(lambda _saved: None)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    bench.control.failure = SandboxError("no space left on device")
    with pytest.raises(VmmError, match="no space left"):
        await vm.save(lambda _saved: None)
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
    await vm.kill()


async def test_a_save_that_fails_on_a_full_disk_says_so_whatever_gvisor_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    vm = await bench.make()
    await vm.pause()
    bench.control.failure = SandboxError("runtime error: invalid memory address or nil pointer dereference")
    with pytest.raises(VmmError, match="nil pointer"):
        await vm.save(lambda _saved: None)

    def refuse(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        await vm.save(lambda _saved: None)
    await vm.kill()


async def test_a_save_never_writes_into_a_file_that_has_another_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    vm = await bench.make()
    await vm.pause()
    first = (await vm.save(lambda _saved: None)).saved
    os.link(first.path(BASE.pages), tmp_path / "another")
    (tmp_path / "another").write_text("of somebody else")
    await vm.save(lambda _saved: None)
    assert (tmp_path / "another").read_text() == "of somebody else"
    await vm.kill()


async def test_whoever_is_cancelled_waits_for_what_is_under_way_and_it_is_published(tmp_path: Path) -> None:
    bench, published = Bench(tmp_path), list[Saved]()
    vm = await bench.make()
    await vm.pause()
    bench.control.gate.clear()
    saving = asyncio.create_task(vm.save(published.append))
    await bench.control.reached.wait()
    saving.cancel()
    await asyncio.sleep(0.01)
    assert not saving.done()
    bench.control.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert len(published) == 1
    await vm.kill()


def test_a_base_becomes_an_own_state_and_back_by_names_alone(tmp_path: Path) -> None:
    states, base = GvisorStates(), write_base(tmp_path / "base")
    for name in ("microvm", "fork"):
        (tmp_path / name).mkdir()
    own = states.rewind(base, tmp_path / "microvm")
    assert names_of(own) == OWN
    fork = states.combine(base, own, tmp_path / "fork")
    assert names_of(fork) == BASE
    assert fork.path(BASE.pages).samefile(base.path(BASE.pages))


def test_state_of_another_engine_is_none(tmp_path: Path) -> None:
    with pytest.raises(VmmError, match=r"none of gVisor's"):
        names_of(Saved(tmp_path, ("devices", "memory"), {}))
    with pytest.raises(VmmError, match=r"none of gVisor's"):
        names_of(Saved(tmp_path, BASE.all(), {"form": "whole"}))
