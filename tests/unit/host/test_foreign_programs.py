"""Programs of another architecture: what the kernel is told, and that it is taken back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.host import foreign_programs
from emberbox.host.architecture import ARCHITECTURES, ARM_64, Architecture, native
from emberbox.host.foreign_programs import ForeignPrograms, clear, describe, make_trial, runs
from emberbox.model.errors import HostError


class Kernel:
    """Plays the kernel's side: what is mounted, and what it runs."""

    def __init__(self, home: Path) -> None:
        self.place = home / "runtime/binfmt/registry"
        self.runs_it, self.works = False, True
        self.mounts = 0
        self.taken_back = 0
        self.others: tuple[str, ...] = ()

    async def run(self, command: list[object], **_options: object) -> None:
        assert command == ["mount", "-t", "binfmt_misc", "none", self.place]
        self.mounts += 1
        for name in self.others:
            (self.place / name).touch()

    async def runs(self, _architecture: Architecture) -> bool:
        rule = self.place / "register"
        return self.runs_it or (self.works and rule.exists() and rule.read_bytes() != b"")

    async def unmount(self, directory: Path) -> None:
        assert directory == self.place.parent
        self.mounts = 0
        for rule in self.place.iterdir():
            self.taken_back += rule.read_bytes() == b"-1"
            rule.unlink()


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)

    async def fetch(directory: Path, suite: str, packages: list[str]) -> Path:
        assert (suite, packages) == ("bookworm", ["qemu-user-static"])
        return directory

    monkeypatch.setattr(foreign_programs.process, "run", kernel.run)
    monkeypatch.setattr(foreign_programs, "runs", kernel.runs)
    monkeypatch.setattr(foreign_programs.scratch, "unmount", kernel.unmount)
    monkeypatch.setattr(foreign_programs, "ensure_packages", fetch)
    monkeypatch.setattr(foreign_programs.os, "geteuid", lambda: 0)
    yield kernel
    assert kernel.mounts == 0


def test_the_kernel_is_told_of_the_header_and_keeps_the_program_open() -> None:
    name, kind, offset, magic, mask, interpreter, flags = describe("n", ARM_64, Path("/q")).decode().split(":")[1:]
    assert (name, kind, offset, interpreter, flags) == ("n", "M", "", "/q", "PF")
    assert magic.replace("\\x", "") == "7f454c460201010000000000000000000200b700"
    assert mask.replace("\\x", "") == "ffffffffffffff00fffffffffffffffffeffffff"


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: one.name)
def test_the_trial_is_a_program_for_it(tmp_path: Path, architecture: Architecture) -> None:
    program = tmp_path / "trial"
    program.write_bytes(make_trial(architecture))
    shown = subprocess.run(["readelf", "-hl", program], capture_output=True, text=True, check=False)
    if shown.returncode == 0:  # binutils need not be there
        assert "EXEC" in shown.stdout
        assert not shown.stderr


async def test_the_machines_own_programs_run() -> None:
    assert await runs(native())


async def test_what_the_machine_runs_already_is_left_alone(kernel: Kernel, tmp_path: Path) -> None:
    kernel.runs_it = True
    foreign = ForeignPrograms(tmp_path, ARM_64)
    await foreign.ensure()
    await foreign.ensure()
    assert not kernel.place.exists()
    await foreign.close()


async def test_what_another_server_has_told_the_kernel_is_not_relied_on(kernel: Kernel, tmp_path: Path) -> None:
    """It ends when that one does."""
    kernel.runs_it, kernel.others = True, ("emberbox-0123",)
    foreign = ForeignPrograms(tmp_path, ARM_64)
    await foreign.ensure()
    assert b"qemu-aarch64-static" in (kernel.place / "register").read_bytes()
    await foreign.close()


async def test_it_is_told_once_and_taken_back(kernel: Kernel, tmp_path: Path) -> None:
    foreign = ForeignPrograms(tmp_path, ARM_64)
    await foreign.ensure()
    await foreign.ensure()
    assert kernel.mounts == 1
    assert b"/packages/qemu-user-static/usr/bin/qemu-aarch64-static:PF" in (kernel.place / "register").read_bytes()
    await foreign.close()
    await foreign.close()
    assert not kernel.place.parent.exists()


async def test_what_does_not_work_is_taken_back_and_said(kernel: Kernel, tmp_path: Path) -> None:
    kernel.works = False
    foreign = ForeignPrograms(tmp_path, ARM_64)
    with pytest.raises(HostError, match="do not run here, though"):
        await foreign.ensure()
    await foreign.close()


async def test_a_kernel_that_does_not_know_it_is_named(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_arguments: object, **_options: object) -> None:
        raise HostError("unknown filesystem type")

    monkeypatch.setattr(foreign_programs.process, "run", refuse)
    with pytest.raises(HostError, match="unknown filesystem type; load its module binfmt_misc"):
        await ForeignPrograms(tmp_path, ARM_64).ensure()
    assert not kernel.place.parent.exists()


async def test_who_is_not_root_is_told_what_to_install(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign_programs.os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="qemu-user-static"):
        await ForeignPrograms(tmp_path, ARM_64).ensure()


async def test_what_a_killed_server_has_left_is_taken_back(kernel: Kernel, tmp_path: Path) -> None:
    await ForeignPrograms(tmp_path, ARM_64).ensure()
    (kernel.place / foreign_programs._name(tmp_path)).touch()
    await clear(tmp_path)
    assert kernel.taken_back == 1
    assert not kernel.place.parent.exists()
