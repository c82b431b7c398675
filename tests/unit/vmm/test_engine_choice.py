"""Which engine a server uses: the rule, and what the setting's values stand for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.model.engines import ENGINE_NAMES
from emberbox.model.errors import HostError
from emberbox.vmm import engines
from emberbox.vmm.base import Cage
from emberbox.vmm.engine import Engine
from emberbox.vmm.engines import ENGINES, choose, find_best, make_other
from emberbox.vmm.qemu import choice
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
    found = await choose(name, request(tmp_path))
    assert (found.name, found.make) == (name, ENGINES[name].make)


async def test_one_that_needs_networks_of_the_hosts_is_refused_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_as(monkeypatch, root=True)
    assert (await choose("qemu", request(tmp_path), "no nftables")).name == "qemu"
    with pytest.raises(HostError, match=r"gvisor needs networks of the host's .*: no nftables"):
        await choose("gvisor", request(tmp_path), "no nftables")


async def test_an_ordinary_user_has_gvisor_without_networks_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_as(monkeypatch, root=False)
    assert (await choose("gvisor", request(tmp_path), "you are not root")).name == "gvisor"


def runs_as(monkeypatch: pytest.MonkeyPatch, *, root: bool) -> None:
    """Let gVisor be what it is for root, or for another user."""
    capabilities = replace(ENGINES["gvisor"].capabilities, user_network=not root)
    of_gvisor = replace(ENGINES["gvisor"], capabilities=capabilities)
    monkeypatch.setattr(engines, "ENGINES", {**ENGINES, "gvisor": of_gvisor})


@pytest.mark.parametrize("accelerator", ["kvm", "tcg"])
async def test_who_asks_for_an_accelerator_asks_for_qemu(tmp_path: Path, accelerator: str) -> None:
    assert (await choose("auto", request(tmp_path, accelerator))).name == "qemu"


@pytest.mark.parametrize(
    ("sandbox_works", "networks", "chosen"),
    [(True, "", "gvisor"), (False, "", "qemu"), (True, "no nftables", "qemu")],
)
async def test_auto_tries_what_there_is_and_makes_of_it_what_it_has_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox_works: bool, networks: str, chosen: str
) -> None:
    tried: list[str] = []
    sandbox = object()

    async def no_kvm(_cage: Cage, _shim: Path) -> KvmProbe:
        tried.append("kvm")
        return KvmProbe(None, "there is no /dev/kvm")

    async def make(_request: EngineRequest) -> object:
        tried.append("gvisor")
        if not sandbox_works:
            raise HostError("gVisor does not work here")
        return sandbox

    monkeypatch.setattr(engines, "probe_kvm", no_kvm)
    monkeypatch.setattr(choice, "probe_kvm", no_kvm)
    monkeypatch.setattr(engines, "make_gvisor", make)
    found = await choose("auto", request(tmp_path), networks)
    assert found.name == chosen
    driver = await found.make(request(tmp_path))
    assert (driver is sandbox) == (chosen == "gvisor")
    assert driver is sandbox or driver.engine.accelerator == "tcg"
    assert tried == (["kvm"] if networks else ["kvm", "gvisor"])


SYSTRAP, TCG = Engine("gVisor", "20240729.0", "systrap"), Engine("QEMU", "7.2.22", "tcg")


@pytest.mark.parametrize(
    ("own", "accelerator", "refused"), [(SYSTRAP, "auto", True), (SYSTRAP, "tcg", False), (TCG, "auto", False)]
)
async def test_no_image_gets_itself_out_of_the_servers_boundary_unless_the_operator_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Engine, accelerator: str, refused: bool
) -> None:
    async def no_kvm(_cage: Cage, _shim: Path) -> KvmProbe:
        return KvmProbe(None, "there is no /dev/kvm")

    monkeypatch.setattr(choice, "probe_kvm", no_kvm)
    if refused:
        with pytest.raises(HostError, match=r"there is no /dev/kvm.*EMBERBOX_ACCELERATOR=tcg"):
            await make_other("qemu", request(tmp_path, accelerator), own)
    else:
        assert (await make_other("qemu", request(tmp_path, accelerator), own)).engine.accelerator == "tcg"


async def test_an_engine_that_nobody_knows_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"no engine xen; there are qemu, gvisor"):
        await make_other("xen", request(tmp_path), TCG)


def test_tags_and_settings_know_the_same_engines() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES


def request(home: Path, accelerator: str = "auto") -> EngineRequest:
    return EngineRequest(home, "", accelerator, Cage(None, None), {})


async def test_arm_is_emulated_behind_no_boundary_only_where_the_operator_says_so(tmp_path: Path) -> None:
    """It needs no EMBERBOX_ACCELERATOR=tcg besides: it is a setting of its own."""
    with pytest.raises(HostError, match="EMBERBOX_ARM64=emulate"):
        await make_other("qemu-arm64", request(tmp_path, "tcg"), SYSTRAP)
