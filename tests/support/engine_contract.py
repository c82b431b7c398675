"""What every engine must do for those above it: the same tests for all, each with a `bench` of its own.

They ask what a user would lose. tests/unit runs them over the engine without VMs, tests/vm over QEMU.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from emberbox.guest import http
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.guest.output import DropOutput
from emberbox.guest.protocol import Application
from emberbox.host.space import DiskSpace
from emberbox.machine.connections import Connector
from emberbox.machine.guests import GuestHost
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.errors import GuestError, VmmError
from emberbox.process.adoption import AdoptedProcess
from emberbox.time_limits import limit_s
from emberbox.vmm.base import (
    AdoptPlan,
    BootPlan,
    Cage,
    KernelBoot,
    MachineShape,
    RestorePlan,
    RootBoot,
    Saved,
    UserNetwork,
    Vm,
    VmFiles,
    VmmDriver,
)

PORT = 8080
ANSWER_S, BOOT_S, SILENCE_S = limit_s(30), limit_s(120), 0.5
CAGE = Cage(None, None)


@dataclass
class Bench:
    """An engine with a base to start guests from, whose application counts and runs commands (probe.pl).

    Args:
        driver: the engine.
        base: the base.
        shape: its machine's.
        root: its root file system.
        scratch: where new directories are made, on the file system of the base.
        boot: how a guest is started afresh, and `application` in it.
        prepare_boot: makes ready the directory of a guest that is to be booted.
        find_process: returns what `adopt` is given, for a VM that was noted in a directory.
        leave: lets go of a VM as a server does that is killed.
        end: ends a VM from outside, with SIGKILL where it is a process.
    """

    driver: VmmDriver
    base: Saved
    shape: MachineShape
    root: Path
    scratch: Path
    boot: Callable[[Path], KernelBoot | RootBoot]
    application: Application
    prepare_boot: Callable[[Path], Awaitable[None]]
    find_process: Callable[[Path], AdoptedProcess]
    leave: Callable[[Vm], Awaitable[None]]
    end: Callable[[Vm, Path], None]
    made: list[Vm] = field(default_factory=list)
    _directories: int = 0

    def directory(self) -> Path:
        """Return a new directory."""
        self._directories += 1
        made = self.scratch / f"vm{self._directories}"
        made.mkdir()
        return made

    async def launch(self, base: Saved | None = None, directory: Path | None = None) -> tuple[Vm, Path]:
        """Start a guest from a base; it stands still."""
        directory = directory or self.directory()
        self.driver.states.lay_out(base or self.base, directory)
        return await self.restore(base or self.base, None, directory), directory

    async def restore(self, base: Saved, own: Saved | None, directory: Path) -> Vm:
        """Start a guest in its directory; it stands still."""
        files = VmFiles(directory, self.root)
        self.made.append(await self.driver.restore(RestorePlan(self.shape, files, CAGE, UserNetwork(), base, own, 0.0)))
        return self.made[-1]

    async def take_over(self, vm: Vm, directory: Path, own: Saved | None) -> Vm:
        """Leave a guest as a server does that is killed, and take it over as the next one does."""
        vm.write_note(directory / "vmm.json", uid=None, slot=None)
        await self.leave(vm)
        plan = AdoptPlan(self.shape, VmFiles(directory, self.root), self.base, own)
        self.made.append(await self.driver.adopt(self.find_process(directory), plan))
        return self.made[-1]

    async def close(self) -> None:
        """End all that is left."""
        for vm in self.made:
            await vm.kill()
        self.made.clear()


@asynccontextmanager
async def application(vm: Vm, timeout_s: float = ANSWER_S) -> AsyncIterator[Agent]:
    """Let a guest and its application run, and return its agent; afterwards the application is frozen again."""
    await vm.unpause()
    agent = await Agent.connect(await vm.dial_agent(), DropOutput(), timeout_s)
    try:
        await agent.thaw(fresh_identity())
        yield agent
        await agent.freeze()
    finally:
        await agent.close()


async def count(agent: Agent) -> int:
    """Let the application count on in its memory."""
    answer = await http.post(agent, PORT, "/", b"", {}, ANSWER_S)
    return int(json.loads(answer.body)["count"])


async def run(agent: Agent, command: str) -> str:
    """Let it run a command."""
    return (await http.post(agent, PORT, "/sh", command.encode(), {}, ANSWER_S)).body.decode().strip()


async def suspend(vm: Vm) -> Saved:
    """Save a guest whose application is frozen, and end it."""
    await vm.pause()
    saved = await save(vm)
    await vm.kill()
    return saved


async def save(vm: Vm) -> Saved:
    """Save a guest that stands still; what is told to whoever publishes it is what is returned."""
    published: list[Saved] = []
    written = await vm.save(published.append)
    assert published == [written.saved]
    return written.saved


class EngineContract:
    """The tests; a subclass has the fixture `bench`."""

    async def test_what_was_there_before_a_save_is_there_after_a_restore(self, bench: Bench) -> None:
        """In memory and on disk, over two suspends."""
        vm, directory = await bench.launch()
        own = None
        for turn in range(1, 4):
            async with application(vm) as agent:
                if own is None:
                    before = await count(agent)
                    await run(agent, "echo kept >/data/word")
                else:
                    assert await count(agent) == before + turn - 1
                    assert await run(agent, "cat /data/word") == "kept"
            own = await suspend(vm)
            vm = await bench.restore(bench.base, own, directory)

    async def test_a_restored_guest_stands_still_until_it_is_let_run(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        with pytest.raises(GuestError, match="did not answer"):
            await Agent.connect(await vm.dial_agent(), DropOutput(), SILENCE_S)
        async with application(vm):
            pass
        await vm.pause()
        with pytest.raises(GuestError, match="did not answer"):
            await Agent.connect(await vm.dial_agent(), DropOutput(), SILENCE_S)

    async def test_guests_of_one_base_have_nothing_in_common(self, bench: Bench) -> None:
        counts = []
        for _ in range(2):
            vm, _ = await bench.launch()
            async with application(vm) as agent:
                counts.append(await count(agent))
        assert counts[0] == counts[1]

    async def test_a_guest_runs_on_after_a_save_that_comes_to_nothing(self, bench: Bench) -> None:
        vm, directory = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
        names = {path.name for path in directory.iterdir()}
        await vm.pause()
        saved = await save(vm)
        assert all(saved.path(name).exists() for name in saved.names)
        vm.forget_saved()
        vm.forget_saved()
        async with application(vm) as agent:
            assert await count(agent) == before + 1
        assert not {path.name for path in directory.iterdir() if path.name.startswith("memory")} - names
        own = await suspend(vm)
        async with application(await bench.restore(bench.base, own, directory)) as agent:
            assert await count(agent) == before + 2

    async def test_a_draft_has_what_the_guest_had_when_it_was_captured(self, bench: Bench) -> None:
        vm, directory = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
        made = bench.directory()
        draft = await vm.draft(made)
        await vm.pause()
        await draft.capture()
        async with application(vm) as agent:
            assert await count(agent) == before + 1
            base = bench.driver.states.compact(await draft.store())
        await vm.kill()
        shutil.rmtree(directory)
        assert base.engine == vm.engine
        clone, _ = await bench.launch(base)
        async with application(clone) as agent:
            assert await count(agent) == before + 1

    async def test_a_base_of_a_suspended_guest_needs_no_other_files(self, bench: Bench) -> None:
        vm, directory = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
            await run(agent, "echo kept >/data/word")
        made = bench.directory()
        states = bench.driver.states
        base = states.compact(states.combine(bench.base, await suspend(vm), made))
        shutil.rmtree(directory)
        moved = made.rename(made.with_name("moved"))
        clone, _ = await bench.launch(replace(base, directory=moved))
        async with application(clone) as agent:
            assert await count(agent) == before + 1
            assert await run(agent, "cat /data/word") == "kept"

    async def test_a_guest_can_go_back_to_its_base(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        async with application(vm) as agent:
            first = await count(agent)
        await vm.kill()
        directory = bench.directory()
        own = bench.driver.states.rewind(bench.base, directory)
        async with application(await bench.restore(bench.base, own, directory)) as agent:
            assert await count(agent) == first

    async def test_a_guest_that_runs_is_not_saved(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        draft = await vm.draft(bench.directory())
        async with application(vm) as agent:
            with pytest.raises(VmmError):
                await save(vm)
            with pytest.raises(VmmError):
                await draft.capture()
            await count(agent)

    async def test_what_is_done_twice_does_no_harm(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
        for _ in range(2):
            await vm.pause()
        for _ in range(2):
            await vm.unpause()
        async with application(vm) as agent:
            assert await count(agent) == before + 1
        for _ in range(2):
            await vm.kill()
            await vm.wait_exited()

    async def test_one_that_has_ended_does_nothing_any_more(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        await vm.kill()
        for what in (vm.pause(), vm.unpause(), save(vm)):
            with pytest.raises((VmmError, OSError)):
                await what
        with pytest.raises((VmmError, OSError)):
            vm.usage()
        with pytest.raises(GuestError):
            await vm.dial_agent()

    async def test_one_that_is_ended_from_outside_says_how(self, bench: Bench) -> None:
        vm, directory = await bench.launch()
        async with application(vm):
            pass
        vm.write_note(directory / "vmm.json")
        bench.end(vm, directory)
        assert "SIGKILL" in await vm.wait_exited()

    async def test_the_next_server_takes_it_over_with_all_it_had(self, bench: Bench) -> None:
        """Also what it has changed since: it can be suspended by the next server."""
        vm, directory = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
        adopted = await bench.take_over(vm, directory, None)
        async with application(adopted) as agent:
            assert await count(agent) == before + 1
        assert adopted.engine == vm.engine
        own = await suspend(adopted)
        async with application(await bench.restore(bench.base, own, directory)) as agent:
            assert await count(agent) == before + 2

    async def test_one_that_is_taken_over_before_it_ran_goes_on_where_it_was_saved(self, bench: Bench) -> None:
        """Its server was killed when it had noted the guest and not yet let it run."""
        vm, directory = await bench.launch()
        async with application(vm) as agent:
            before = await count(agent)
        own = await suspend(vm)
        vm = await bench.restore(bench.base, own, directory)
        adopted = await bench.take_over(vm, directory, own)
        async with application(adopted) as agent:
            assert await count(agent) == before + 1

    async def test_state_of_another_engine_is_refused_before_anything_starts(self, bench: Bench) -> None:
        other = replace(bench.driver.engine, vmm="Another", version="99.0")
        snapshot = ImageSnapshot(bench.shape, replace(bench.base, engine=other))
        directory = bench.directory()
        host = GuestHost(bench.driver, Connector(None), None, None, DiskSpace(bench.scratch, 0))
        with pytest.raises(VmmError, match=r"Another 99\.0"):
            await host.launch(snapshot, directory, fresh_identity(), DropOutput())
        with pytest.raises(VmmError, match=r"Another 99\.0"):
            await host.prepare(snapshot, directory)
        assert not list(directory.iterdir())

    async def test_a_port_is_reached_where_the_engine_has_a_network_of_its_own(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        if not bench.driver.capabilities.opens_ports:
            with pytest.raises(VmmError):
                await vm.reach(PORT)
            return
        async with application(vm) as agent:
            assert await vm.reach(PORT) == await vm.reach(PORT)
            assert await vm.reach(PORT) != await vm.reach(PORT + 1)
            await count(agent)

    async def test_what_it_costs_is_told(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        async with application(vm) as agent:
            await count(agent)
            used = vm.usage()
            assert used.memory_bytes > 0
            assert used.changed_bytes >= 0
            assert vm.cpu_seconds() >= used.cpu_s

    async def test_writes_are_held_up_and_go_on_where_the_engine_can(self, bench: Bench) -> None:
        vm, _ = await bench.launch()
        if not bench.driver.capabilities.holds_writes:
            with pytest.raises(VmmError):
                await vm.hold_writes(held=True)
            return
        for held in (True, True, False, False):
            await vm.hold_writes(held=held)
        async with application(vm) as agent:
            await run(agent, "echo written >/data/word")

    async def test_a_guest_that_was_booted_becomes_a_base(self, bench: Bench) -> None:
        base = await boot_base(bench)
        counts = []
        for _ in range(2):
            clone, _ = await bench.launch(base)
            async with application(clone) as agent:
                counts.append(await count(agent))
        assert counts == [2, 2]


async def boot_base(bench: Bench) -> Saved:
    """Boot a guest, let its application count once, save it and end it; return the base."""
    directory = bench.directory()
    await bench.prepare_boot(directory)
    plan = BootPlan(bench.shape, VmFiles(directory, bench.root), CAGE, UserNetwork(), bench.boot(directory))
    vm = await bench.driver.boot(plan)
    bench.made.append(vm)
    agent = await Agent.connect(await vm.dial_agent(), DropOutput(), BOOT_S)
    try:
        await agent.start(bench.application)
        await _first_count(agent)
        await agent.freeze(for_launches=True)
    finally:
        await agent.close()
    return await suspend(vm)


async def _first_count(agent: Agent) -> int:
    """Wait until the application listens."""
    deadline = time.monotonic() + BOOT_S
    while True:
        try:
            return await count(agent)
        except (ConnectionRefusedError, GuestError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
