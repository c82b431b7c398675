"""Starting guests here: a VMM, its agent, its network and its user, acquired together and let go together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from emberbox.background import in_thread
from emberbox.guest.agent import fresh_identity
from emberbox.guest.output import DropOutput, OutputListener
from emberbox.guest.protocol import Application, Identity
from emberbox.host import native
from emberbox.host.kernel import Kernel
from emberbox.host.space import DiskSpace
from emberbox.host.users import UserPool
from emberbox.machine.connections import Connector
from emberbox.machine.greeting import connect_agent, greet_adopted
from emberbox.machine.guest import Guest, Parts, ended_on_error
from emberbox.machine.running import hold_writes
from emberbox.machine.snapshot import (
    ImageSnapshot,
    SuspendedState,
    forget_suspended,
    load_resumed,
    take_back_resume,
)
from emberbox.machine.survivors import Survivor, note_vmm
from emberbox.model.arns import new_microvm_id
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import GuestError, HostError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import (
    AdoptPlan,
    BootPlan,
    Cage,
    Capabilities,
    KernelBoot,
    MachineShape,
    Network,
    RestorePlan,
    RootBoot,
    SavedStates,
    UserNetwork,
    Vm,
    VmFiles,
    VmmDriver,
)
from emberbox.vmm.drivers import Drivers, MakeOther, make_no_other
from emberbox.vmm.engine import Engine

log = logging.getLogger(__name__)

BOOT_TIMEOUT_S = limit_s(120.0)
WAKE_TIMEOUT_S = limit_s(30.0)

LAUNCHES_PER_CPU = 2
"""More launches wait: at a time they would only slow each other down, until one runs into a time limit."""

StartVm = Callable[[Cage, Network], Awaitable[Vm]]


class GuestHost:
    """Starts guests on this machine.

    Args:
        driver: the server's own engine.
        connector: makes the network of a guest.
        users: ids for VMM processes; None where this process may not change its user.
        void: a network namespace with no way out for VMM processes, if there is one.
        space: the room on the disk; while there is none, what guests write is held up.
        make_other: makes another engine, for what asks for it by name.

    Attributes:
        engines: they.
    """

    def __init__(
        self, driver: VmmDriver, connector: Connector, users: UserPool | None, void: Path | None, space: DiskSpace,
        make_other: MakeOther = make_no_other,
    ) -> None:  # fmt: skip
        self.engines = Drivers(driver, make_other)
        self._connector = connector
        self._users = users
        self._void = void
        self._space = space
        self._vms: dict[Vm, Capabilities] = {}
        space.on_full(self._hold_writes)
        self._launches = asyncio.Semaphore(LAUNCHES_PER_CPU * (os.cpu_count() or 1))

    def states_of(self, saved: Engine | None) -> SavedStates:
        """Return what an engine does with what it has saved, without a guest: see checkpoint.py.

        Raises:
            VmmError: there is no such engine here.
        """
        return self.engines.get(saved).states

    def check_engine(self, saved: Engine | None) -> None:
        """See that saved state can be loaded here, before anything is started.

        Args:
            saved: what saved it; None where it does not say.

        Raises:
            VmmError: it cannot; the message names the engines and says what to do.
        """
        if obstacle := self.engines.find_obstacle(saved):
            raise VmmError(obstacle)

    async def boot(
        self, directory: Path, root: Path, shape: MachineShape, kernel: Kernel | None, application: Application,
        on_output: OutputListener, egress: EgressPolicy | None = None, engine: str = "",
    ) -> Guest:  # fmt: skip
        """Boot a guest from its kernel and start the application.

        Args:
            directory: holds the new files; the disk was made before.
            root: the root file system.
            shape: the guest's machine.
            kernel: the guest's kernel, where the engine's guests boot one.
            application: what to run.
            on_output: gets what the application writes.
            egress: what the guest may reach; None for public addresses.
            engine: the name of what it is to run on; empty is the server's own.

        Raises:
            VmmError: the VMM failed; GuestError: the guest did not come up, or the application did not start.
            HostError: the engine cannot be used here.
        """
        driver = await self.engines.ensure(engine)
        boot: KernelBoot | RootBoot
        if driver.capabilities.own_kernel:
            assert kernel is not None
            boot = KernelBoot(kernel.image, kernel.initramfs, directory / "console")
        else:
            boot = RootBoot(native.agent_path())

        def start(cage: Cage, network: Network) -> Awaitable[Vm]:
            return driver.boot(BootPlan(shape, VmFiles(directory, root), cage, network, boot))

        guest = await self._start(driver, directory, start, on_output, BOOT_TIMEOUT_S, egress)
        async with ended_on_error(guest):
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
            await in_thread(self.states_of(snapshot.engine).lay_out, snapshot.saved, directory)
            guest = await self._restore(snapshot, directory, None, on_output, egress)
            async with ended_on_error(guest):
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
        await in_thread(self.states_of(snapshot.engine).lay_out, snapshot.saved, directory)
        guest = await self._restore(snapshot, directory, None, DropOutput(), None)
        async with ended_on_error(guest):
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
        try:
            guest = await self._restore(snapshot, state.directory, state, on_output, egress)
            async with ended_on_error(guest):
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
        async with contextlib.AsyncExitStack() as acquired:
            if survivor.uid is not None and self._users is not None:
                self._users.adopt(survivor.uid)
                acquired.callback(self._users.give_back, survivor.uid)
            acquired.push_async_callback(survivor.process.kill_group)
            capabilities = (self.engines.find(snapshot.engine) or self.engines.own).capabilities
            connection = await self._connector.adopt(directory.name, survivor.slot, capabilities.device)
            acquired.push_async_callback(connection.release)
            driver = self.engines.get(snapshot.engine)
            resumed = load_resumed(directory)
            own = None if resumed is None else resumed.saved
            plan = AdoptPlan(snapshot.shape, VmFiles(directory, snapshot.root), snapshot.saved, own)
            vm = await driver.adopt(survivor.process, plan)
            acquired.push_async_callback(vm.kill)
            self._note_vm(acquired, vm, capabilities)
            await hold_writes(vm, capabilities, held=self._space.is_full)
            stalled = capabilities.stalls and await vm.is_stalled()

            def identity() -> Identity:
                return replace(fresh_identity(), new_network=resumes, spared=connection.spared())

            while stalled or (agent := await greet_adopted(vm, capabilities, on_output, identity)) is None:
                if not await wait_for_room():
                    connection.keep()
                    acquired.pop_all()
                    return None
                stalled = False
            acquired.push_async_callback(agent.close)
            parts = Parts(directory, snapshot, vm, capabilities, agent, connection, self._space)
            return Guest(parts, acquired.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    def has_undelivered(self, microvm_id: str) -> bool:
        """Say whether a client has sent something to a suspended microVM on a connection that is held."""
        return self._connector.has_undelivered(microvm_id)

    async def let_go(self, microvm_id: str) -> None:
        """Reset the connections that are held for a suspended microVM; repeats are harmless."""
        await self._connector.let_go(microvm_id)

    async def _restore(
        self, snapshot: ImageSnapshot, directory: Path, state: SuspendedState | None,
        on_output: OutputListener, egress: EgressPolicy | None,
    ) -> Guest:  # fmt: skip
        """Start a guest from saved state; it runs, its application does not yet."""
        driver = self.engines.get(snapshot.engine if state is None else state.engine)

        def start(cage: Cage, network: Network) -> Awaitable[Vm]:
            stopped = state.stopped if state is not None and driver.capabilities.moves_clock else None
            plan = RestorePlan(
                snapshot.shape, VmFiles(directory, snapshot.root), cage, network,
                base=snapshot.saved, own=None if state is None else state.saved,
                stood_still_s=0.0 if stopped is None else stopped.elapsed_s(),
            )  # fmt: skip
            return driver.restore(plan)

        return await self._start(driver, directory, start, on_output, WAKE_TIMEOUT_S, egress, snapshot)

    async def _start(
        self, driver: VmmDriver, directory: Path, start: StartVm, on_output: OutputListener,
        timeout_s: float, egress: EgressPolicy | None, snapshot: ImageSnapshot | None = None,
    ) -> Guest:  # fmt: skip
        """Acquire everything a guest needs; what fails lets go of all that came before.

        A guest that is restored stands still until it is noted: from then on the next server can take it over. What
        it was suspended as does not count any more, as its kernel may write to its disk before anything else happens.
        """
        async with contextlib.AsyncExitStack() as acquired:
            uid, capabilities = self._take_user(acquired), driver.capabilities
            connection = await self._connector.connect(directory.name, capabilities.device)
            acquired.push_async_callback(connection.release)
            if egress is not None:
                await connection.restrict(egress)
            async with connection.attach() as network:
                if isinstance(network, UserNetwork) and not capabilities.user_network:
                    raise HostError(f"{driver.engine} needs networks of the host's, which only root can make")
                vm = await start(Cage(uid, self._void), network)
            acquired.push_async_callback(vm.kill)
            self._note_vm(acquired, vm, capabilities)
            if self._space.is_full:
                await hold_writes(vm, capabilities, held=True)
            if snapshot is not None:
                note_vmm(directory, vm, uid, connection.slot_number)
                await in_thread(forget_suspended, directory)
                await vm.unpause()
            try:
                agent = await connect_agent(vm, on_output, timeout_s)
            except (GuestError, VmmError) as error:
                raise type(error)(f"{error}{_console_tail(directory)}") from error
            acquired.push_async_callback(agent.close)
            parts = Parts(directory, snapshot, vm, capabilities, agent, connection, self._space)
            return Guest(parts, acquired.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    async def _hold_writes(self, held: bool) -> None:
        await asyncio.gather(*(hold_writes(vm, capabilities, held=held) for vm, capabilities in self._vms.items()))

    def _note_vm(self, acquired: contextlib.AsyncExitStack, vm: Vm, capabilities: Capabilities) -> None:
        self._vms[vm] = capabilities
        acquired.callback(self._vms.pop, vm, None)

    def _take_user(self, acquired: contextlib.AsyncExitStack) -> int | None:
        if self._users is None:
            return None
        uid = self._users.take()
        acquired.callback(self._users.give_back, uid)
        return uid


def _console_tail(directory: Path) -> str:
    """Return the last line that the guest's kernel printed, while an image is built."""
    with contextlib.suppress(OSError):
        lines = (directory / "console").read_text(errors="replace").strip().splitlines()
        if lines:
            return f"; its kernel's last words: {lines[-1][-200:]}"
    return ""
