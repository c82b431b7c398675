"""The tiny sandbox: over an engine without VMs, and over a stand-in for runsc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from emberbox.model.errors import GuestError, HostError, VmmError
from emberbox.process.adoption import descendants
from emberbox.vmm.base import Cage, RestorePlan
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor import choice, probe
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.gvisor.probe import probe_sandbox
from emberbox.vmm.request import EngineRequest
from support.fake_engine import FakeEngine, FakeVm

ENGINE = Engine("gVisor", "20240729.0", "systrap")
SAY = (
    'for each; do case "$each" in --log-fd=*) log=${each#*=};; esac; done; say() { echo "$*" >>/proc/self/fd/$log; }\n'
)
"""Begins a stand-in that tells its errors where runsc tells them."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the namespaces of a keeper")


class Failing(FakeEngine):
    """An engine whose restore fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def restore(self, plan: RestorePlan) -> FakeVm:
        raise self._error


class Silent(FakeEngine):
    """An engine whose restored guests say nothing."""

    async def restore(self, plan: RestorePlan) -> FakeVm:
        vm = await super().restore(plan)
        vm.unpause = _nothing  # type: ignore[method-assign]
        return vm


async def _nothing() -> None:
    """It stays as it is."""


async def test_what_runs_is_saved_and_restored_works() -> None:
    assert await probe_sandbox(FakeEngine()) == ""


@pytest.mark.parametrize("error", [VmmError("none"), HostError("none"), GuestError("none"), OSError("none")])
async def test_what_is_not_restored_does_not_work(error: Exception) -> None:
    assert await probe_sandbox(Failing(error)) == "a tiny sandbox does not work: none"


async def test_what_says_nothing_after_the_restore_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 0.5)
    assert "was not run, saved and restored within 0.5 s" in await probe_sandbox(Silent())


@as_root
async def test_what_runsc_says_is_told(tmp_path: Path) -> None:
    driver = GvisorDriver(ENGINE, stand_in(tmp_path, SAY + "say seccomp is not there; exit 1"))
    assert await probe_sandbox(driver) == "a tiny sandbox does not work: gVisor did not start: seccomp is not there"


@as_root
async def test_one_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 1.0)
    driver = GvisorDriver(ENGINE, stand_in(tmp_path, "exec sleep 60"))
    assert "within 1 s" in await probe_sandbox(driver)
    assert not [process for process in descendants(os.getpid()) if _is_sleep(process.pid)]


@as_root
async def test_an_engine_that_does_not_work_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "open_places", list)
    says = SAY + 'case "$1" in --version) echo runsc version 0.0~20240729.0;; *) say no memfd; exit 1;; esac'
    request = EngineRequest(tmp_path, str(stand_in(tmp_path, says)), "auto", Cage(None, None), {})
    with pytest.raises(HostError, match=r"does not work here: .*no memfd.*emberbox doctor.*EMBERBOX_ENGINE=qemu"):
        await choice.make_driver(request)


@pytest.mark.parametrize(("uid", "told"), [(0, False), (1000, True)])
async def test_an_ordinary_user_is_told_what_to_look_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, told: bool
) -> None:
    async def fails(_driver: object) -> str:
        return "unshare failed"

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(choice, "probe_sandbox", fails)
    problem = await choice.try_driver(GvisorDriver(ENGINE, tmp_path))
    assert problem.startswith("unshare failed")
    assert ("user.max_user_namespaces" in problem) is told


async def test_an_ordinary_user_is_told_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(choice, "open_places", list)
    monkeypatch.setattr(choice, "probe_sandbox", probe_works)
    says = "echo runsc version 0.0~20240729.0"
    await choice.make_driver(EngineRequest(tmp_path, str(stand_in(tmp_path, says)), "auto", Cage(None, None), {}))
    assert "guests reach NOTHING outside" in caplog.text


async def probe_works(_driver: object) -> str:
    return ""


def stand_in(directory: Path, script: str) -> Path:
    """Write a program in runsc's place."""
    program = directory / "runsc"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\x0060\0")
    except OSError:
        return False
