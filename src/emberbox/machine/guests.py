"""Running guests: a VMM, its agent, its network and its user, acquired together and let go together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from emberbox.background import in_thread
from emberbox.byte_streams import SocketStream, join
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.guest.output import DropOutput, OutputListener
from emberbox.guest.protocol import Application, Identity, Place
from emberbox.host import disk, memory, usage
from emberbox.host.kernel import Kernel
from emberbox.host.memory_stack import open_stack
from emberbox.host.pagemap import find_touched_runs
from emberbox.host.space import DiskSpace
from emberbox.host.users import UserPool
from emberbox.machine import checkpoint
from emberbox.machine.checkpoint import Capture
from emberbox.machine.connections import Connection, Connector
from emberbox.machine.snapshot import (
    ImageSnapshot,
    SuspendedState,
    forget_suspended,
    is_suspended,
    take_back_resume,
)
from emberbox.machine.survivors import Survivor, note_vmm
from emberbox.machine.usage import measure_running
from emberbox.model.arns import new_microvm_id
from emberbox.model.clock import Instant
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import GuestError, VmmError
from emberbox.model.usage import Usage
from emberbox.time_limits import limit_s
from emberbox.vmm.base import (
    BootPlan,
    Cage,
    MachineShape,
    MemoryLayer,
    RestorePlan,
    Tap,
    UserNetwork,
    Vm,
    VmFiles,
    VmmDriver,
)
from emberbox.vmm.engine import Engine

log = logging.getLogger(__name__)

BOOT_TIMEOUT_S = limit_s(120.0)
WAKE_TIMEOUT_S = limit_s(30.0)
ADOPT_TIMEOUT_S = limit_s(60.0)
"""Longer: servers start on busy machines, and a guest that does not answer in time is ended."""

BYTES_PER_MIB = 1 << 20

LATE_THAW_TIMEOUT_S = limit_s(1.0)
END_TIMEOUT_S = limit_s(1.0)
RECONNECT_TIMEOUT_S = limit_s(10.0)

LOOK_TIMEOUT_S = limit_s(2.0)
CONNECT_TIMEOUT_S = limit_s(10.0)

LAUNCHES_PER_CPU = 2
"""More launches wait: at a time they would only slow each other down, until one runs into a time limit."""

StartVm = Callable[[Cage, Tap | UserNetwork], Awaitable[Vm]]


@dataclass(frozen=True, slots=True)
class SuspendFigures:
    """What a suspend cost: bytes of memory written."""

    memory_bytes: int


class Guest:
    """A running guest; made by `GuestHost`. The owner ends it with `end`, once or more often.

    Attributes:
        ports: what its snapshot knows of ports: whether each spoke TLS.
        agent: its agent; another one after `reconnect`.
        lost: set when the agent cannot be spoken to any more, though the guest was not ended; another one after
            `reconnect`.
    """

    def __init__(
        self, directory: Path, shape: MachineShape, snapshot: ImageSnapshot | None, vm: Vm, agent: Agent,
        connection: Connection, space: DiskSpace, resources: contextlib.AsyncExitStack,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.shape = shape
        self.ports = {} if snapshot is None else dict(snapshot.ports)
        self._snapshot = snapshot
        self._vm = vm
        self._connection = connection
        self._space = space
        self._resources = resources
        self._direct: dict[int, bool] = dict.fromkeys(self.ports, True)
        self._looking = asyncio.Lock()
        connection.carry = self._carry
        self._ending: asyncio.Task[None] | None = None
        self._hold(agent)

    def _hold(self, agent: Agent) -> None:
        self.agent = agent
        if self._connection.names is not None:
            agent.serve_names(self._connection.names)
        self.lost: asyncio.Future[GuestError] = asyncio.get_running_loop().create_future()
        agent.lost.add_done_callback(lambda ended: self._lose(agent, ended.result()))

    def _lose(self, agent: Agent, error: GuestError) -> None:
        if agent is self.agent and not self.lost.done():
            self.lost.set_result(error)

    async def reconnect(self, on_output: OutputListener) -> None:
        """Speak to its agent over a new connection, and undo whatever the guest was stopped for.

        Args:
            on_output: gets what the application writes from now on; what was under way is lost.

        Raises:
            GuestError, VmmError: it does not answer.
        """
        await self.agent.close()
        await self._vm.unpause()
        agent = await connect_agent(self._vm, on_output, RECONNECT_TIMEOUT_S)
        try:
            await agent.thaw(fresh_identity())
        except BaseException:
            await agent.close()  # the channel takes one connection at a time
            raise
        self._resources.push_async_callback(agent.close)
        self._hold(agent)

    @property
    def pid(self) -> int:
        """The VMM's process id."""
        return self._vm.pid

    @property
    def engine(self) -> Engine:
        """What its saved state will be of."""
        return self._vm.engine

    async def reach(self, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of the guest, whatever address it is open at."""
        if await self.is_direct(port):
            return await self._connection.reach(self._vm, port)
        return await self._connection.relay(port)

    async def is_direct(self, port: int) -> bool:
        """Say whether the network leads to where a port is open: the guest's 127.0.0.1. Other addresses need the agent.

        Asked of the agent at the first use, and again while nothing listens.
        """
        if port not in self._direct:
            async with self._looking:  # one question is enough for all who wait
                return self._direct[port] if port in self._direct else await self._look(port)
        return self._direct[port]

    async def _look(self, port: int) -> bool:
        try:
            stream = await self.agent.open_stream(port, LOOK_TIMEOUT_S)
        except (ConnectionRefusedError, GuestError):
            return True
        stream.close()
        self._direct[port] = stream.place is Place.LOOPBACK
        return self._direct[port]

    def doubt(self, port: int) -> None:
        """Look anew for where a port is open: a connection to it has failed."""
        self.ports.pop(port, None)
        self._direct.pop(port, None)

    async def _carry(self, port: int, client: SocketStream) -> None:
        """Carry a client's connection to a port of the guest by way of the agent."""
        try:
            stream = await self.agent.open_stream(port, CONNECT_TIMEOUT_S)
        except (ConnectionRefusedError, GuestError):
            client.close()
            return
        await join(client, stream)

    async def restrict(self, egress: EgressPolicy) -> None:
        """Let it reach what a policy says and nothing else, at once.

        Raises:
            HostError: the rules cannot be set; those from before still count.
        """
        await self._connection.restrict(egress)

    def measure(self) -> Usage:
        """Return what it costs the machine now; takes some milliseconds.

        Raises:
            OSError, VmmError: its VMM has ended.
        """
        return measure_running(self._vm, self.shape, self.directory)

    def cpu_seconds(self) -> float:
        """Return how much processor time the VMM has used.

        Raises:
            VmmError: it has ended.
        """
        try:
            return usage.cpu_seconds(self.pid)
        except OSError as error:
            raise VmmError("the VMM has ended") from error

    async def is_stalled(self) -> bool:
        """Say whether its VMM has stopped it because the host's disk is full.

        Raises:
            VmmError: the VMM has ended.
        """
        return await self._vm.is_stalled()

    async def wait_stalled(self) -> None:
        """Wait until its VMM stops it for that reason.

        Raises:
            VmmError: the VMM has ended.
        """
        await self._vm.wait_stalled()

    async def go_on(self) -> None:
        """Let it go on where its VMM stopped it; what it had not written is written now.

        Raises:
            VmmError: the VMM has ended.
        """
        await self._vm.unpause()

    async def wait_exited(self) -> str:
        """Wait until the VMM's process has ended; return in words how."""
        return await self._vm.wait_exited()

    async def pause(self) -> None:
        """Stop it as it is; it costs memory and no processor time.

        Raises:
            VmmError: the VMM has ended.
        """
        await self._vm.pause()

    def is_alive(self) -> bool:
        """Say whether its agent can be spoken to; a VMM that has ended takes it along."""
        return self.agent.is_connected()

    async def wake(self, identity: Identity) -> None:
        """Give it its identity and let the application run.

        Raises:
            GuestError: the agent did not answer.
        """
        await self.agent.thaw(replace(self.connected(identity), spared=self._connection.spared()))

    @property
    def is_asked_for_names(self) -> bool:
        """Whether its agent passes on to the host what is asked of the name server."""
        return self._connection.names is not None

    def connected(self, identity: Identity) -> Identity:
        """Return an identity that says how the guest is connected now."""
        return replace(identity, new_network=True, names=self.is_asked_for_names)

    async def begin(self, identity: Identity, on_output: OutputListener, egress: EgressPolicy | None) -> None:
        """Start a prepared guest as a new microVM.

        Args:
            identity: who it is.
            on_output: gets what the application writes.
            egress: what it may reach; None for public addresses.

        Raises:
            VmmError, GuestError, HostError: it could not be started; it has been ended.
        """
        async with _ended_on_error(self):
            if egress is not None:
                await self.restrict(egress)
            self.agent.listen(on_output)
            await self._vm.unpause()
            await self.wake(identity)

    async def take_snapshot(self) -> None:
        """Freeze the application, stop the guest and write its devices; it is not started again.

        Memory and disk are then in their files, which nobody changes any more.

        Raises:
            GuestError: the application could not be frozen.
            VmmError: the devices could not be written.
        """
        await self.agent.freeze(for_launches=True)
        await self._vm.pause()
        await self._vm.save_devices()
        await self.end()
        await in_thread(memory.punch_zero_pages, self.directory / "memory")

    async def suspend(self, earlier: tuple[memory.Run, ...]) -> SuspendFigures:
        """Save the guest and end its VMM; only pages that are not as they were at its last start are written.

        When saving fails the guest runs on as if nothing had happened. One that stands still for want of space on the
        host's disk is saved with the write that waits, its application not frozen.

        Args:
            earlier: the pages that an earlier suspend saved, and that still count.

        Raises:
            GuestError, VmmError, OSError: it could not be saved; it still runs.
        """
        stalled = await self._vm.is_stalled()
        if not stalled:
            await self._freeze()
        try:
            await self._vm.pause()
            stopped = Instant.now()
            await self._vm.save_devices()
            figures = await in_thread(self._write_changes, earlier, stopped)
        except Exception:
            try:
                if stalled:
                    forget_suspended(self.directory)
                else:
                    await self._run_on()
            finally:
                if not earlier and not is_suspended(self.directory):  # else pages of it are mapped, or will be
                    (self.directory / "memory.layer").unlink(missing_ok=True)
            raise
        if self.agent.spares_connections:
            self._connection.hold(self._vm)
        await self.end()
        return figures

    def _write_changes(self, earlier: tuple[memory.Run, ...], stopped: Instant) -> SuspendFigures:
        assert self._snapshot is not None
        pid, address = self._vm.pid, self._vm.memory_address()
        length = self.shape.mem_size_mib * BYTES_PER_MIB
        saved = SuspendedState(self.directory, earlier)
        disk.unshare(saved.memory_layer)
        layers = [(layer.path, layer.runs) for layer in (*self._snapshot.layers, *saved.layers)]
        with open_stack(self._snapshot.memory, layers) as before:
            changed = memory.read_pages(pid, address, find_touched_runs(pid, address, length))
            written = memory.write_pages(before.differing(changed), saved.memory_layer, length)
        runs = tuple(memory.merge_runs([*earlier, *written]))
        filling = memory.subtract_runs(runs, [*earlier, *written])  # the layer lacks what is in gaps that were filled
        memory.write_pages(memory.read_pages(pid, address, filling), saved.memory_layer, length)
        (self.directory / "devices").replace(saved.devices)
        replace(saved, runs=runs, stopped=stopped, engine=self.engine).publish()
        return SuspendFigures(memory.count_pages(written) * memory.PAGE_BYTES)

    async def checkpoint(self, draft: ImageSnapshot) -> Capture:
        """Capture the guest's state at one instant and let it run on.

        The application stands still meanwhile; what could be done before or after that is not done here.

        Args:
            draft: from `checkpoint.begin`.

        Raises:
            GuestError, VmmError, OSError: it could not be captured; the guest runs on.
        """
        await self._freeze()
        try:
            await self._vm.pause()
            await self._vm.save_devices()
            address = self._vm.memory_address()
            draft = replace(draft, engine=self.engine)
            return await in_thread(checkpoint.capture, draft, self._vm.pid, address, self.directory)
        finally:
            await self._run_on()

    async def _freeze(self) -> None:
        """Stop the application; what it does is undone where that fails.

        Writes that are held up are let go meanwhile: a process cannot be stopped before its write has ended.
        """
        is_held = self._space.is_full
        if is_held:
            await hold_writes(self._vm, held=False)
        try:
            await self._freeze_or_thaw()
        finally:
            if is_held:
                await hold_writes(self._vm, held=self._space.is_full)

    async def _freeze_or_thaw(self) -> None:
        try:
            await self.agent.freeze()
        except GuestError:
            with contextlib.suppress(GuestError):  # a guest that freezes late must not stay so
                await self.agent.thaw(fresh_identity(), LATE_THAW_TIMEOUT_S)
            raise

    async def _run_on(self) -> None:
        try:
            await in_thread(forget_suspended, self.directory)
        except OSError:
            if is_suspended(self.directory):  # it counts, so the guest must not run
                raise
            log.exception("that %s runs on is not sure to survive a power cut", self.directory.name)
        try:
            await self._vm.unpause()
            await self.agent.thaw(fresh_identity())
        except (GuestError, VmmError) as error:
            self._lose(self.agent, GuestError(f"its application could not be let run on: {error}"))
            raise

    async def leave(self) -> None:
        """Let the VMM run on without this server; the next one takes it over."""
        self._connection.keep()
        self._resources.pop_all()
        await self.agent.close()

    async def end(self) -> None:
        """End the VMM and give back everything. It may be asked for again, and whoever waits may be cancelled."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._give_back())
        await asyncio.shield(self._ending)

    async def _give_back(self) -> None:
        try:
            await self._resources.aclose()
        except Exception:  # every other thing has been given back all the same
            log.exception("not all of %s could be given back", self.directory.name)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a guest goes on from, over its snapshot's memory; its clocks have stood still for so many seconds."""

    devices: Path
    layers: tuple[MemoryLayer, ...] = ()
    stood_still_s: float = 0.0


class GuestHost:
    """Starts guests on this machine.

    Args:
        driver: the VMM.
        connector: makes the network of a guest.
        users: ids for VMM processes; None where this process may not change its user.
        void: a network namespace with no way out for VMM processes, if there is one.
        space: the room on the disk; while there is none, what guests write is held up.
    """

    def __init__(
        self, driver: VmmDriver, connector: Connector, users: UserPool | None, void: Path | None, space: DiskSpace
    ) -> None:
        self._driver = driver
        self._connector = connector
        self._users = users
        self._void = void
        self._space = space
        self._vms: set[Vm] = set()
        space.on_full(self._hold_writes)
        self._launches = asyncio.Semaphore(LAUNCHES_PER_CPU * (os.cpu_count() or 1))

    def check_engine(self, saved: Engine | None) -> None:
        """See that saved state can be loaded here, before anything is started.

        Args:
            saved: what saved it; None where it does not say.

        Raises:
            VmmError: it cannot; the message names both engines and says what to do.
        """
        if obstacle := self._driver.engine.obstacle(saved):
            raise VmmError(obstacle)

    async def boot(
        self, directory: Path, root: Path, shape: MachineShape, kernel: Kernel, application: Application,
        on_output: OutputListener, egress: EgressPolicy | None = None,
    ) -> Guest:  # fmt: skip
        """Boot a guest from its kernel and start the application.

        Args:
            directory: holds the new files: disk (made before), memory, devices, console.
            root: the root file system.
            shape: the guest's machine.
            kernel: the guest's kernel.
            application: what to run.
            on_output: gets what the application writes.
            egress: what the guest may reach; None for public addresses.

        Raises:
            VmmError: the VMM failed; GuestError: the guest did not come up, or the application did not start.
        """
        files = VmFiles(directory, root, directory / "disk", directory / "devices")

        def start(cage: Cage, network: Tap | UserNetwork) -> Awaitable[Vm]:
            memory_path, console = directory / "memory", directory / "console"
            plan = BootPlan(shape, files, cage, network, kernel.image, kernel.initramfs, memory_path, console)
            return self._driver.boot(plan)

        guest = await self._start(directory, shape, start, on_output, BOOT_TIMEOUT_S, egress)
        async with _ended_on_error(guest):
            await guest.agent.start(replace(application, names=guest.is_asked_for_names))
        return guest

    async def launch(
        self, snapshot: ImageSnapshot, directory: Path, identity: Identity, on_output: OutputListener,
        egress: EgressPolicy | None = None,
    ) -> Guest:  # fmt: skip
        """Start a new microVM from an image's snapshot, copy-on-write.

        Args:
            snapshot: the image version's.
            directory: an empty one, for the microVM's own files.
            identity: who the guest is.
            on_output: gets what the application writes.
            egress: what the guest may reach; None for public addresses.

        Raises:
            VmmError, GuestError, HostError: it could not be started; nothing is left running.
        """
        self.check_engine(snapshot.engine)
        async with self._launches:
            await in_thread(_copy_disk, snapshot, directory)
            guest = await self._restore(snapshot, directory, _Saved(snapshot.devices), on_output, egress)
            async with _ended_on_error(guest):
                await guest.wake(identity)
        return guest

    async def prepare(self, snapshot: ImageSnapshot, directory: Path) -> Guest:
        """Start a new microVM up to where only its identity is missing, and pause it; `Guest.begin` starts it.

        Its application is frozen, as it is in the snapshot.

        Args:
            snapshot: the image version's.
            directory: an empty one, for the microVM's own files.

        Raises:
            VmmError, GuestError, HostError: it could not be started; nothing is left running.
        """
        self.check_engine(snapshot.engine)
        self._space.check("No MicroVM can be prepared")
        await in_thread(_copy_disk, snapshot, directory)
        guest = await self._restore(snapshot, directory, _Saved(snapshot.devices), DropOutput(), None)
        async with _ended_on_error(guest):
            await guest.agent.rehearse_thaw(guest.connected(fresh_identity(new_microvm_id(), uuid.uuid4().hex)))
            await guest.pause()
        return guest

    async def resume(
        self, snapshot: ImageSnapshot, state: SuspendedState, on_output: OutputListener,
        egress: EgressPolicy | None = None,
    ) -> Guest:  # fmt: skip
        """Start a suspended microVM where it was; it may reach what `egress` says.

        Raises:
            VmmError, GuestError, HostError: it could not be started; `is_suspended` says whether its saved state is
                untouched, as it is unless the guest stopped answering after it had begun to run.
        """
        self.check_engine(state.engine)
        stood_still_s = 0.0 if state.stopped is None else state.stopped.elapsed_s()
        saved = _Saved(state.devices, state.layers, stood_still_s)
        try:
            guest = await self._restore(snapshot, state.directory, saved, on_output, egress)
            async with _ended_on_error(guest):
                await guest.wake(fresh_identity())
        except BaseException:
            await in_thread(take_back_resume, state.directory)
            raise
        return guest

    async def adopt(
        self, snapshot: ImageSnapshot, directory: Path, survivor: Survivor, on_output: OutputListener,
        wait_for_room: Callable[[], Awaitable[bool]], *, resumes: bool,
    ) -> Guest | None:  # fmt: skip
        """Take over a guest that an earlier server started. What that server had stopped it for is undone.

        Args:
            snapshot: the image version's.
            directory: the microVM's own files.
            survivor: its VMM.
            on_output: gets what the application writes.
            wait_for_room: called when it stands still for want of space on the disk; False lets it stand.
            resumes: a resume was under way: its connections to elsewhere are those of before the suspend.

        Returns:
            None when it was let stand; its VMM runs on, for the next server.

        Raises:
            VmmError, GuestError, HostError: it cannot be taken over; it is ended.
        """
        files = VmFiles(directory, snapshot.root, directory / "disk", directory / "devices")
        async with contextlib.AsyncExitStack() as acquired:
            if survivor.uid is not None and self._users is not None:
                self._users.adopt(survivor.uid)
                acquired.callback(self._users.give_back, survivor.uid)
            acquired.push_async_callback(survivor.process.kill_group)
            connection = await self._connector.adopt(directory.name, survivor.slot)
            acquired.push_async_callback(connection.release)
            vm = await self._driver.adopt(survivor.process, files, snapshot.memory)
            acquired.push_async_callback(vm.kill)
            self._note_vm(acquired, vm)
            await hold_writes(vm, held=self._space.is_full)
            stalled = await vm.is_stalled()
            while stalled or (agent := await _greet(vm, on_output, connection, resumes=resumes)) is None:
                if not await wait_for_room():
                    connection.keep()
                    acquired.pop_all()
                    return None
                stalled = False
            acquired.push_async_callback(agent.close)
            return Guest(directory, snapshot.shape, snapshot, vm, agent, connection, self._space, acquired.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    def has_undelivered(self, microvm_id: str) -> bool:
        """Say whether a client has sent something to a suspended microVM on a connection that is held."""
        return self._connector.has_undelivered(microvm_id)

    async def let_go(self, microvm_id: str) -> None:
        """Reset the connections that are held for a suspended microVM; repeats are harmless."""
        await self._connector.let_go(microvm_id)

    async def _restore(
        self, snapshot: ImageSnapshot, directory: Path, saved: _Saved,
        on_output: OutputListener, egress: EgressPolicy | None,
    ) -> Guest:  # fmt: skip
        """Start a guest from saved state; it runs, its application does not yet."""
        files = VmFiles(directory, snapshot.root, directory / "disk", directory / "devices")

        def start(cage: Cage, network: Tap | UserNetwork) -> Awaitable[Vm]:
            stack = (*snapshot.layers, *saved.layers)
            plan = RestorePlan(
                snapshot.shape, files, cage, network, saved.devices, snapshot.memory, stack, saved.stood_still_s
            )
            return self._driver.restore(plan)

        return await self._start(directory, snapshot.shape, start, on_output, WAKE_TIMEOUT_S, egress, snapshot)

    async def _start(
        self, directory: Path, shape: MachineShape, start: StartVm, on_output: OutputListener,
        timeout_s: float, egress: EgressPolicy | None, snapshot: ImageSnapshot | None = None,
    ) -> Guest:  # fmt: skip
        """Acquire everything a guest needs; what fails lets go of all that came before.

        A guest that is restored stands still until it is noted: from then on the next server can take it over. What
        it was suspended as does not count any more, as its kernel may write to its disk before anything else happens.
        """
        async with contextlib.AsyncExitStack() as acquired:
            uid = self._take_user(acquired)
            connection = await self._connector.connect(directory.name)
            acquired.push_async_callback(connection.release)
            if egress is not None:
                await connection.restrict(egress)
            async with connection.attach() as network:
                vm = await start(Cage(uid, self._void), network)
            acquired.push_async_callback(vm.kill)
            self._note_vm(acquired, vm)
            if self._space.is_full:
                await hold_writes(vm, held=True)
            if snapshot is not None:
                note_vmm(directory, vm.pid, uid, connection.slot_number)
                await in_thread(forget_suspended, directory)
                await vm.unpause()
            try:
                agent = await connect_agent(vm, on_output, timeout_s)
            except (GuestError, VmmError) as error:
                raise type(error)(f"{error}{_console_tail(directory)}") from error
            acquired.push_async_callback(agent.close)
            return Guest(directory, shape, snapshot, vm, agent, connection, self._space, acquired.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    async def _hold_writes(self, held: bool) -> None:
        await asyncio.gather(*(hold_writes(vm, held=held) for vm in self._vms))

    def _note_vm(self, acquired: contextlib.AsyncExitStack, vm: Vm) -> None:
        self._vms.add(vm)
        acquired.callback(self._vms.discard, vm)

    def _take_user(self, acquired: contextlib.AsyncExitStack) -> int | None:
        if self._users is None:
            return None
        uid = self._users.take()
        acquired.callback(self._users.give_back, uid)
        return uid


async def hold_writes(vm: Vm, *, held: bool) -> None:
    """Let what a guest writes wait, or go on."""
    try:
        await vm.hold_writes(held=held)
    except VmmError as error:  # it ends just now, or an earlier release has started it
        log.warning("what a microVM writes could not be %s: %s", "held up" if held else "let go on", error)


async def connect_agent(vm: Vm, on_output: OutputListener, timeout_s: float) -> Agent:
    """Connect to a guest's agent; where its VMM has ended meanwhile, say that, and its last words.

    Raises:
        VmmError: the VMM has ended.
        GuestError: the agent did not answer.
    """
    try:
        return await Agent.connect(vm.agent_socket, on_output, timeout_s)
    except GuestError as error:
        try:
            async with asyncio.timeout(END_TIMEOUT_S):  # its socket closes just before it is gone
                words = await vm.wait_exited()
        except TimeoutError:
            raise error from None
        raise VmmError(f"the VMM ended before the guest's agent answered: {words}") from error


async def _greet(vm: Vm, on_output: OutputListener, connection: Connection, *, resumes: bool) -> Agent | None:
    """Let an adopted guest run and its application too; None when its VMM stops it, as the disk is full.

    Raises:
        GuestError, VmmError: it does not answer.
    """

    async def greet() -> Agent:
        agent = await connect_agent(vm, on_output, ADOPT_TIMEOUT_S)
        try:
            await agent.thaw(replace(fresh_identity(), new_network=resumes, spared=connection.spared()))
        except BaseException:
            await agent.close()
            raise
        return agent

    await vm.unpause()
    greeting, stall = asyncio.create_task(greet()), asyncio.create_task(vm.wait_stalled())
    try:
        await asyncio.wait((greeting, stall), return_when=asyncio.FIRST_COMPLETED)
        return await greeting if greeting.done() else None
    finally:
        for task in (greeting, stall):
            task.cancel()
        await asyncio.gather(greeting, stall, return_exceptions=True)


@contextlib.asynccontextmanager
async def _ended_on_error(guest: Guest) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await guest.end()
        raise


def _copy_disk(snapshot: ImageSnapshot, directory: Path) -> None:
    disk.copy_sparse(snapshot.disk, directory / "disk")
    (directory / "disk").chmod(0o600)


def _console_tail(directory: Path) -> str:
    """Return the last line that the guest's kernel printed, while an image is built."""
    with contextlib.suppress(OSError):
        lines = (directory / "console").read_text(errors="replace").strip().splitlines()
        if lines:
            return f"; its kernel's last words: {lines[-1][-200:]}"
    return ""
