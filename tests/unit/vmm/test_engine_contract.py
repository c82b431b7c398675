"""The engines' contract, over the engine without VMs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from emberbox.guest.protocol import Application
from emberbox.host import native
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.base import MachineShape, RootBoot, Saved, Vm, VmmDriver
from support.engine_contract import Bench, EngineContract
from support.fake_engine import BASE, ENGINE, FakeEngine, FakeVm, Memory

APPLICATION = Application(("true",), (), "/", 0, 0, (), 0, False, "h", "")


class TestFakeEngine(EngineContract):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / BASE).write_bytes(Memory(count=3).to_bytes())
        base = Saved(tmp_path / "base", (BASE,), {"form": "whole"}, ENGINE)
        driver: VmmDriver = FakeEngine()  # the type checker holds it against the interface
        bench = Bench(
            driver=driver, base=base, shape=MachineShape(1, 1), root=tmp_path / "root", scratch=tmp_path,
            boot=lambda _directory: RootBoot(native.agent_path()), application=APPLICATION, prepare_boot=_nothing,
            find_process=lambda _directory: cast("AdoptedProcess", None), leave=_nothing, end=_end,
        )  # fmt: skip
        yield bench
        await bench.close()


async def _nothing(_of: Path | Vm) -> None:
    pass


def _end(vm: Vm, _directory: Path) -> None:
    assert isinstance(vm, FakeVm)
    vm.die("it was killed by SIGKILL")
