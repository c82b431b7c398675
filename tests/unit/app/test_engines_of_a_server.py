"""Which engines a server makes at its start: its own, and those that its home holds something of."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest

from emberbox.app import machine
from emberbox.app.machine import Network, start_engines
from emberbox.host.space import DiskSpace
from emberbox.machine.connections import Connector
from emberbox.machine.guests import GuestHost
from emberbox.model.errors import HostError
from emberbox.settings import load
from emberbox.vmm import engines
from emberbox.vmm.base import VmmDriver
from emberbox.vmm.engine import Engine
from emberbox.vmm.engines import Choice
from emberbox.vmm.request import EngineRequest
from support.fake_machine import SHAPE
from support.snapshots import image_snapshot

QEMU, GVISOR = Engine("QEMU", "7.2.22", "tcg"), Engine("gVisor", "20240729.0", "systrap")
CAPABILITIES = {QEMU: engines.ENGINES["qemu"].capabilities, GVISOR: engines.ENGINES["gvisor"].capabilities}


class Driver:
    """An engine in name only."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.capabilities = engine, CAPABILITIES[engine]


class Makes:
    """Makes engines, and notes which."""

    def __init__(self, patch: pytest.MonkeyPatch, problem: str = "") -> None:
        self.problem = problem
        self.others: list[str] = []
        patch.setattr(engines, "make_other", self.make_other)

    async def make_own(self, _request: EngineRequest) -> VmmDriver:
        made: Any = Driver(QEMU)
        return made  # type: ignore[no-any-return]

    async def make_other(self, name: str, _request: EngineRequest, own: Engine) -> VmmDriver:
        assert own is QEMU
        self.others.append(name)
        if self.problem:
            raise HostError(self.problem)
        made: Any = Driver(GVISOR)
        return made  # type: ignore[no-any-return]

    async def start(self, home: Path, tap: Any = None) -> GuestHost:
        """Start a server's engines; `tap` stands for networks of its own."""
        network = Network(Connector(None), tap, None, None)
        async with contextlib.AsyncExitStack() as running:
            choice = Choice("qemu", self.make_own)
            return await start_engines(load({}, home=home), choice, network, DiskSpace(home, 0), running)
        raise AssertionError("an exit stack swallows nothing")


def save(home: Path, version: str, engine: Engine) -> None:
    directory = home / "images/one" / version
    directory.mkdir(parents=True)
    for name in ("root.erofs", "disk", "memory", "devices"):
        (directory / name).write_bytes(b"x")
    image_snapshot(directory, SHAPE, engine).publish()


async def test_who_has_nothing_of_another_makes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makes = Makes(monkeypatch)
    save(tmp_path, "1.0", QEMU)
    guests = await makes.start(tmp_path)
    assert (makes.others, [one.engine for one in guests.engines.list_made()]) == ([], [QEMU])


async def test_what_the_home_holds_of_another_can_be_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    makes = Makes(monkeypatch)
    save(tmp_path, "1.0", QEMU)
    save(tmp_path, "2.0", GVISOR)
    with caplog.at_level(logging.INFO):
        guests = await makes.start(tmp_path, tap=object())
    guests.check_engine(GVISOR)
    guests.check_engine(QEMU)
    assert makes.others == ["gvisor"]
    assert "guests run with QEMU 7.2.22 with software emulation (TCG); boundary: none" in caplog.text
    assert f"guests that ask for the engine gvisor run with {GVISOR}; boundary: user-space kernel" in caplog.text


async def test_a_server_starts_without_an_engine_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, "2.0", GVISOR)
    guests = await Makes(monkeypatch, "there is no runsc").start(tmp_path)
    assert "what this home holds of the engine gvisor cannot be launched or resumed: there is no runsc" in caplog.text
    assert "there is no runsc" in (guests.engines.find_obstacle(GVISOR) or "")


async def test_one_that_needs_networks_of_the_hosts_is_none_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = await Makes(monkeypatch).start(tmp_path)
    with pytest.raises(HostError, match="needs networks of the host's, which only root can make"):
        await guests.engines.ensure("gvisor")


def test_a_cages_user_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Users:
        def take(self) -> int:
            taken.append(7)
            return 7

        def give_back(self, uid: int) -> None:
            taken.remove(uid)

    users: Any = Users()
    with contextlib.suppress(HostError), machine._cage(Network(Connector(None), None, users, Path("/void"))) as cage:
        assert (cage.uid, cage.network_namespace, taken) == (7, Path("/void"), [7])
        raise HostError("it does not work")
    assert taken == []
