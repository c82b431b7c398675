"""Which engine a server uses: the rule, and what the setting's values stand for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from emberbox.model.errors import HostError
from emberbox.vmm import engines
from emberbox.vmm.base import Cage
from emberbox.vmm.engines import DEFAULT_ENGINE, ENGINES, find_best, find_name
from emberbox.vmm.qemu.probe import KvmProbe
from emberbox.vmm.request import EngineRequest

WORKS, BROKEN = "", "it does not work"


def answers(problem: str, asked: list[str] | None = None, name: str = "") -> Callable[[], Awaitable[str]]:
    """Return what tries an engine, with this outcome."""

    async def attempt() -> str:
        if asked is not None:
            asked.append(name)
        return problem

    return attempt


@pytest.mark.parametrize(
    ("kvm", "sandbox", "saved", "chosen"),
    [
        (WORKS, WORKS, {}, "qemu"),
        (WORKS, BROKEN, {}, "qemu"),
        (BROKEN, WORKS, {}, "gvisor"),
        (BROKEN, BROKEN, {}, "qemu"),
        (WORKS, WORKS, {"systrap": 2}, "gvisor"),
        (WORKS, WORKS, {"systrap": 2, "kvm": 1}, "qemu"),
        (BROKEN, WORKS, {"tcg": 1}, "qemu"),
        (BROKEN, WORKS, {"kvm": 1}, "qemu"),
        (BROKEN, WORKS, {"systrap": 1, "tcg": 1}, "gvisor"),
        (BROKEN, BROKEN, {"systrap": 1}, "gvisor"),
    ],
)
async def test_the_best_is_the_strongest_boundary_unless_a_home_would_change_over(
    kvm: str, sandbox: str, saved: Mapping[str, int], chosen: str
) -> None:
    assert await find_best(answers(kvm), answers(sandbox), saved) == chosen


async def test_a_sandbox_is_not_tried_where_kvm_works() -> None:
    asked: list[str] = []
    await find_best(answers(WORKS, asked, "kvm"), answers(WORKS, asked, "sandbox"), {})
    assert asked == ["kvm"]


async def test_a_home_that_is_kept_from_the_best_is_told_how_to_change(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await find_best(answers(BROKEN), answers(WORKS), {"tcg": 3})
    assert "EMBERBOX_ENGINE=gvisor" in caplog.text


@pytest.mark.parametrize("name", list(ENGINES))
async def test_an_engine_that_is_named_is_taken_untried(tmp_path: Path, name: str) -> None:
    assert await find_name(name, request(tmp_path)) == name


async def test_auto_is_one_engine_so_far(tmp_path: Path) -> None:
    assert await find_name("auto", request(tmp_path)) == DEFAULT_ENGINE == "qemu"


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
async def test_who_asks_for_an_accelerator_asks_for_qemu(tmp_path: Path, accelerator: str) -> None:
    assert await find_name("best", request(tmp_path, accelerator)) == "qemu"


@pytest.mark.parametrize(("sandbox_works", "chosen"), [(True, "gvisor"), (False, "qemu")])
async def test_best_tries_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox_works: bool, chosen: str
) -> None:
    async def no_kvm(_cage: Cage, _shim: Path) -> KvmProbe:
        return KvmProbe(None, "there is no /dev/kvm")

    async def make(_request: EngineRequest) -> None:
        if not sandbox_works:
            raise HostError("gVisor does not work here")

    monkeypatch.setattr(engines, "probe_kvm", no_kvm)
    monkeypatch.setattr(engines, "make_gvisor", make)
    assert await find_name("best", request(tmp_path)) == chosen


def request(home: Path, accelerator: str = "auto") -> EngineRequest:
    return EngineRequest(home, "", accelerator, Cage(None, None), {})
