"""Owners of microVMs over the plain fake machine (`plain_machine.py`), with real rows: no VMM, no guest, no files."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emberbox import background
from emberbox.control.logs.writer import LogWriter
from emberbox.control.microvms import watch
from emberbox.control.microvms.recovery import Fate, Recovery
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.timers import Timers
from emberbox.host.space import DiskSpace
from emberbox.model.image_requests import ImageRequest
from emberbox.model.records import LOCAL_HOST, ImageVersion, Microvm
from emberbox.model.states import MicrovmState, VersionState, VersionStatus
from emberbox.store.database import Database
from emberbox.store.logs import LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import metadata
from support.fake_machine import Script
from support.fake_world import HOOKS, IMAGE, KEEPS_RUNNING, SETTLED, VERSION, ScriptedStore, new_microvm
from support.plain_machine import Disk, FakeCheckpoints, FakeLeftovers, FakeMachine
from support.waiting import wait_for_async


class PlainWorld:
    """One machine with one image, and a server's runners; `restart` is the next server."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.script = Script()
        self.database = Database(f"sqlite:///{directory}/emberbox.db", metadata, durable=False)
        self.store = ScriptedStore(self.database, self.script)
        now, request = datetime.now(UTC), ImageRequest("", "", "", "", "", 512, (), hooks=HOOKS)
        self.version = ImageVersion(IMAGE, VERSION, VersionState.SUCCESSFUL, VersionStatus.ACTIVE, request, now, now)
        self.disk = Disk(images={(IMAGE, VERSION): {"first": 1}})
        self.ended: list[str] = []
        patch.setattr(background, "RETRY_INTERVAL_S", 0.001)
        patch.setattr(watch, "RECONNECTS_AFTER_S", (0.0, 0.0))
        self.begin()

    async def _step(self, name: str) -> None:
        await self.script.pause(f"machine.{name}")

    def begin(self) -> None:
        """Be a new server."""
        self.timers, self.machine = Timers(), FakeMachine(self.disk, self._step)
        self.context = RunnerContext(
            store=self.store, machine=self.machine, checkpoints=FakeCheckpoints(self.machine, self._step),
            room=DiskSpace(self.directory, 0), log_writer=LogWriter(LogStore(self.database)), timers=self.timers,
            image_tags=lambda _: KEEPS_RUNNING, on_ended=self.ended.append, find_egress=lambda *_: None,
            issue_credentials=lambda *_: None, revoke=lambda _: None, drain=self._drain,
        )  # fmt: skip

    async def _drain(self, _microvm_id: str) -> None:
        await asyncio.sleep(0)

    def runner(self, **more: Any) -> MicrovmRunner:
        """Return the owner of a new microVM."""
        microvm = new_microvm(**more)
        assert self.store.add([microvm], None)
        return MicrovmRunner(self.context, microvm, self.version, None)

    async def launched(self, **more: Any) -> MicrovmRunner:
        """Return the owner of a microVM that runs; its application has noted 9."""
        runner = self.runner(**more)
        runner.begin_to_launch()
        await self.idle(runner)
        self.machine.mine[runner.id].memory["noted"] = 9
        return runner

    async def suspended(self, **more: Any) -> MicrovmRunner:
        """Return the owner of such a microVM that is suspended."""
        runner = await self.launched(**more)
        await runner.suspend()
        return runner

    async def take_checkpoint(self, runner: MicrovmRunner) -> str:
        """Take a checkpoint, and return the version of the image that it is."""
        name = str(uuid.uuid4())
        await runner.take_checkpoint(name)
        await self.context.checkpoints.keep(name, IMAGE, name)
        return name

    async def idle(self, runner: MicrovmRunner) -> None:
        """Wait until nothing is done with a microVM any more, but for the watch over it."""
        life = runner._life

        def is_idle() -> bool:
            is_watched_only = all("watch" in task.get_name() for task in life.background._others())
            return life.owner.is_quiet and is_watched_only

        for _ in range(20):  # what has ended may begin something
            await wait_for_async("the microVM settles", is_idle)
            await asyncio.sleep(0)

    def row(self, runner: MicrovmRunner) -> Microvm:
        """Return its row."""
        found = MicrovmStore(self.database).find(runner.id)
        assert found is not None
        return found

    async def check(self, runner: MicrovmRunner) -> MicrovmState:
        """Hold row and machine against one another; return the state, which is settled."""
        await self.idle(runner)
        state, facts = self.row(runner).state, self.machine.look(runner.id)
        assert state in SETTLED
        assert (facts.runs, facts.is_saved) == (state is MicrovmState.RUNNING, state is MicrovmState.SUSPENDED)
        assert facts.runs is (runner.id in self.disk.vmms)
        if state is MicrovmState.TERMINATED:
            assert self.row(runner).state_reason
            assert runner.id in self.ended
            assert runner.id not in self.disk.bases
        return state

    async def memory(self, runner: MicrovmRunner) -> int | None:
        """Return what its application has noted, resuming it for that."""
        self.script.begin()
        if self.row(runner).state is MicrovmState.SUSPENDED:
            await runner.resume()
        return self.machine.mine[runner.id].memory.get("noted")

    async def restart(self, runner: MicrovmRunner) -> MicrovmRunner:
        """Start the next server, and return its owner of the same microVM."""
        self.script.begin()
        self.timers.close()
        self.begin()
        recovery = Recovery(FakeLeftovers(self.disk), self.store.take_over(LOCAL_HOST))
        recovery.clear()
        again = MicrovmRunner(self.context, self.row(runner), self.version, None)
        if self.row(runner).state is MicrovmState.TERMINATED:
            return again
        match recovery.fate(runner.id):
            case Fate.LAUNCH:
                again.begin_to_launch()
            case Fate.ADOPT:
                again.begin_to_take_over()
            case Fate.KEEP_SUSPENDED:
                again.keep_suspended()
            case Fate.END | Fate.LOSE:
                again.begin_to_finish("The server found nothing of it.")
        return again

    async def close(self) -> None:
        """Let go of everything."""
        self.timers.close()
        self.database.close()
