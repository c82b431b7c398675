"""Runners of microVMs on a machine without microVMs, with real rows: what the state rules are tried on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
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
from emberbox.host import disk
from emberbox.host.space import DiskSpace
from emberbox.machine import greeting, saving
from emberbox.machine import guest as guest_module
from emberbox.machine import guests as guests_module
from emberbox.machine.guests import GuestHost
from emberbox.machine.local import LocalCheckpoints, LocalLeftovers, LocalMachine, Places
from emberbox.machine.local import checkpoints as local_checkpoints
from emberbox.machine.local import machine as local_machine
from emberbox.machine.pool import WarmPool
from emberbox.machine.snapshot import is_suspended, load_suspended
from emberbox.machine.survivors import Survivor
from emberbox.model.arns import new_microvm_id
from emberbox.model.clock import Instant
from emberbox.model.errors import HostError
from emberbox.model.hooks import RUNTIME_HOOKS, HookSetting, HookSettings
from emberbox.model.image_requests import ImageRequest
from emberbox.model.launch_requests import LaunchRequest
from emberbox.model.records import LOCAL_HOST, ImageVersion, Microvm
from emberbox.model.states import MicrovmState, VersionState, VersionStatus
from emberbox.store.database import Database
from emberbox.store.logs import LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import metadata
from support.fake_machine import FakeMachine, FakeVm, Script, make_image
from support.waiting import wait_for_async

IMAGE, VERSION = "image-1", "1.0"
SETTLED = {MicrovmState.RUNNING, MicrovmState.SUSPENDED, MicrovmState.TERMINATED}
HOOKS = HookSettings(9000, dict.fromkeys(RUNTIME_HOOKS, HookSetting(is_enabled=True, timeout_s=60)))
KEEPS_RUNNING = {"emberbox:suspend-hook-failure": "keep-running"}
INTERNET = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS"
REQUEST = LaunchRequest(region="", ingress=(), egress=(INTERNET,))


def new_microvm(**more: Any) -> Microvm:
    """Return the row of a microVM that is to be launched."""
    microvm = Microvm(
        id=new_microvm_id(), account_id="000000000000", endpoint_label=str(uuid.uuid4()), image_id=IMAGE,
        image_arn="arn", image_version=VERSION, state=MicrovmState.PENDING, state_reason=None, request=REQUEST,
        incarnation=1, started_at=datetime.now(UTC), terminated_at=None, started=Instant.now(),
    )  # fmt: skip
    return replace(microvm, **more)


class ScriptedStore(MicrovmStore):
    """The rows, each access a step."""

    def __init__(self, database: Database, script: Script) -> None:
        super().__init__(database)
        self._script = script

    def find(self, microvm_id: str) -> Microvm | None:
        self._script.step("store.find")
        return super().find(microvm_id)

    def change_state(self, microvm_id: str, *args: Any, **kwargs: Any) -> bool:
        self._script.step("store.change_state")
        return super().change_state(microvm_id, *args, **kwargs)

    def settle(self, microvm_id: str, *args: Any, **kwargs: Any) -> bool:
        self._script.step("store.settle")
        return super().settle(microvm_id, *args, **kwargs)


class World:
    """One home with one image, and a server's runners; `restart` is the next server.

    Args:
        home: the state directory.
        patch: puts the machine in the place of the real one.
    """

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.machine = FakeMachine()
        self.script = self.machine.script
        for name in ("microvms", "builds"):
            (home / name).mkdir()
        self.image = make_image(home / "images" / IMAGE / VERSION)
        self.database = Database(f"sqlite:///{home}/emberbox.db", metadata, durable=False)
        self.store = ScriptedStore(self.database, self.script)
        now = datetime.now(UTC)
        request = ImageRequest("", "", "", "", "", 512, (), hooks=HOOKS)
        self.version = ImageVersion(IMAGE, VERSION, VersionState.SUCCESSFUL, VersionStatus.ACTIVE, request, now, now)
        patch.setattr(greeting, "Agent", self.machine.agent_class())
        for module in (guests_module, guest_module, saving, local_machine, local_checkpoints):
            patch.setattr(module, "in_thread", self.script.in_thread)
        patch.setattr(disk, "sync", lambda _path: None)
        patch.setattr(background, "RETRY_INTERVAL_S", 0.01)
        patch.setattr(watch, "RECONNECTS_AFTER_S", (0.0, 0.0))
        patch.setattr(local_machine, "EXPLAINED_WITHIN_S", 0.01)
        self.ended: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        """What a test has begun and does not wait for."""
        self.checkpoint = VERSION
        self.begin({})

    def begin(self, survivors: Mapping[str, Survivor]) -> None:
        """Be a new server, which takes over these VMMs."""
        self.timers = Timers()
        self.space = DiskSpace(self.home, 0)
        self.places = Places(self.home)
        self.guests = GuestHost(self.machine, self.machine, None, None, self.space)  # type: ignore[arg-type]
        pool = WarmPool(self.guests, self.home, 0, self.places.load_snapshot, lambda *_: True)
        self.context = RunnerContext(
            store=self.store, machine=LocalMachine(self.guests, pool, self.places, survivors),
            checkpoints=LocalCheckpoints(self.guests, self.places), room=self.space,
            log_writer=LogWriter(LogStore(self.database)), timers=self.timers, image_tags=lambda _: KEEPS_RUNNING,
            on_ended=self.ended.append, find_egress=lambda *_: None, issue_credentials=lambda *_: None,
            revoke=lambda _: None, drain=self._drain,
        )  # fmt: skip

    async def _drain(self, _microvm_id: str) -> None:
        await asyncio.sleep(0)

    def directory(self, runner: MicrovmRunner) -> Path:
        """Return where a microVM's files are."""
        return self.home / "microvms" / runner.id

    async def take_checkpoint(self, runner: MicrovmRunner) -> str:
        """Take a checkpoint, and return the version of the image that it is."""
        name = str(uuid.uuid4())
        try:
            await runner.take_checkpoint(name)
            await self.context.checkpoints.keep(name, IMAGE, name)
        finally:
            await self.context.checkpoints.drop(name)
        return name

    def add(self, **more: Any) -> Microvm:
        """Store a new microVM."""
        microvm = new_microvm(**more)
        assert self.store.add([microvm], None)
        return microvm

    def runner(self, microvm: Microvm) -> MicrovmRunner:
        """Return the owner of a microVM."""
        return MicrovmRunner(self.context, microvm, self.version, None)

    async def launched(self, **more: Any) -> MicrovmRunner:
        """Return the owner of a microVM that runs; its application has filled page 9 with 9."""
        runner = self.runner(self.add(**more))
        runner.begin_to_launch()
        await self.idle(runner)
        self.vm(runner).put(9, 9)
        return runner

    async def suspended(self) -> MicrovmRunner:
        """Return the owner of such a microVM that is suspended."""
        runner = await self.launched()
        await runner.suspend()
        return runner

    def vm(self, runner: MicrovmRunner) -> FakeVm:
        """Return the VMM of a microVM that runs."""
        found = self.machine.vm_in(self.directory(runner))
        assert found is not None, "it has no VMM"
        return found

    async def idle(self, runner: MicrovmRunner) -> None:
        """Wait until nothing is done with a microVM any more, but for the watch over it."""

        def is_idle() -> bool:
            guest, life = self.places.find_guest(runner.id), runner._life
            is_looked_for = guest is not None and guest.lost.done()
            is_watched_only = all("watch" in task.get_name() for task in life.background._others())
            return not is_looked_for and life.owner.is_quiet and is_watched_only

        for _ in range(20):  # what has ended may begin something
            await wait_for_async("the microVM settles", is_idle)
            await asyncio.sleep(0)

    def row(self, runner: MicrovmRunner) -> Microvm:
        """Return its row."""
        found = MicrovmStore(self.database).find(runner.id)
        assert found is not None
        return found

    async def check(self, runner: MicrovmRunner, *, tidy: bool = True) -> MicrovmState:
        """Hold row, VMM and files against one another (docs/crash-safety.md); return the state, which is settled.

        Without `tidy` a rollback may have left files beside it, for as long as it lives.
        """
        await self.idle(runner)
        row, vm = self.row(runner), self.machine.vm_in(self.directory(runner))
        assert row.state in SETTLED
        if row.state is MicrovmState.RUNNING:
            assert vm is not None, "RUNNING without a VMM"
            assert vm.works, ("RUNNING, and its application stands still", self.script.steps)
            assert not is_suspended(self.directory(runner)), "RUNNING, and its saved state counts"
        else:
            assert vm is None, f"{row.state} with a VMM"
        if row.state is MicrovmState.SUSPENDED:
            load_suspended(self.directory(runner))
        if row.state is MicrovmState.TERMINATED:
            assert row.state_reason, "TERMINATED without a reason"
            assert not self.directory(runner).exists()
            assert runner.id in self.ended
        leftovers = {path.name for path in (self.home / "microvms").iterdir()} - {runner.id}
        assert not leftovers or not (tidy or row.state is MicrovmState.TERMINATED), leftovers
        assert len(self.machine.connections) == (row.state is MicrovmState.RUNNING)
        return row.state

    async def memory(self, runner: MicrovmRunner, page: int) -> int:
        """Return what its application has in a page, resuming it for that."""
        self.script.begin()
        if self.row(runner).state is MicrovmState.SUSPENDED:
            await runner.resume()
        return self.vm(runner).get(page)

    async def restart(self, runner: MicrovmRunner) -> MicrovmRunner:
        """Start the next server, and return its owner of the same microVM."""
        self.script.begin()
        self.timers.close()
        leftovers = LocalLeftovers(self.home, Places(self.home))
        recovery = Recovery(leftovers, self.store.take_over(LOCAL_HOST))
        recovery.clear()
        self.begin(leftovers.survivors)
        again = self.runner(self.row(runner))
        if self.row(runner).state is MicrovmState.TERMINATED:
            return again
        match recovery.fate(runner.id):
            case Fate.LAUNCH:
                again.begin_to_launch()
            case Fate.KEEP_SUSPENDED:
                again.keep_suspended()
            case Fate.END | Fate.LOSE:
                again.begin_to_finish("The server found nothing of it.")
            case Fate.ADOPT:
                raise HostError("a VMM has outlived its server, which had stopped in order")
        return again

    async def close(self) -> None:
        """Let go of everything."""
        self.timers.close()
        self.database.close()
