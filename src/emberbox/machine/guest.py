"""One guest: its VM, its agent and its network, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emberbox.background import in_thread
from emberbox.byte_streams import ByteStream
from emberbox.guest.agent import Agent, fresh_identity
from emberbox.guest.output import OutputListener
from emberbox.guest.protocol import Identity
from emberbox.host.space import DiskSpace
from emberbox.machine.base import SuspendFigures
from emberbox.machine.checkpoint import Checkpoint, link_root
from emberbox.machine.connections import Connection
from emberbox.machine.greeting import connect_agent
from emberbox.machine.guest_ports import GuestPorts, find_direct_place
from emberbox.machine.running import RunningVm
from emberbox.machine.saving import Saving
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import GuestError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Capabilities, Saved, Vm

log = logging.getLogger(__name__)

RECONNECT_TIMEOUT_S = limit_s(10.0)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a guest is made of.

    Args:
        directory: the microVM's own files.
        snapshot: what it was started from; None after a boot.
        vm: its VM.
        capabilities: its engine's.
        agent: its agent.
        connection: its network.
        space: the room on the disk.
    """

    directory: Path
    snapshot: ImageSnapshot | None
    vm: Vm
    capabilities: Capabilities
    agent: Agent
    connection: Connection
    space: DiskSpace


class Guest(RunningVm):
    """A running guest; made by `GuestHost`. The owner ends it with `end`, once or more often.

    Attributes:
        ports: what is known of its ports.
        agent: its agent; another one after `reconnect`.
        lost: set when the agent cannot be spoken to any more, though the guest was not ended; another one after
            `reconnect`.

    Args:
        parts: what it is made of.
        resources: what is given back when it ends.
    """

    def __init__(self, parts: Parts, resources: contextlib.AsyncExitStack) -> None:
        super().__init__(parts.directory, parts.vm, parts.capabilities)
        self._snapshot = parts.snapshot
        self._connection = parts.connection
        self._space = parts.space
        self._resources = resources
        known = {} if parts.snapshot is None else dict(parts.snapshot.ports)
        leads_to = find_direct_place(parts.capabilities, parts.connection)
        self.ports = GuestPorts(known, parts.vm, parts.connection, lambda: self.agent, leads_to)
        self._ending: asyncio.Task[None] | None = None
        self._hold(parts.agent)

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

    async def reach(self, port: int) -> tuple[str, int]:
        """Return address and port at which the host reaches a port of the guest, whatever address it is open at."""
        return await self.ports.reach(port)

    def serve_metadata(self, serve: Callable[[ByteStream], Coroutine[Any, Any, None]]) -> None:
        """Let `serve` answer its metadata address: over the agent's present connection, or in its network."""
        self.agent.serve(serve)
        self._connection.serve_metadata(serve)

    async def restrict(self, egress: EgressPolicy) -> None:
        """Let it reach what a policy says and nothing else, at once.

        Raises:
            HostError: the rules cannot be set; those from before still count.
        """
        await self._connection.restrict(egress)

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
        async with ended_on_error(self):
            if egress is not None:
                await self.restrict(egress)
            self.agent.listen(on_output)
            await self._vm.unpause()
            await self.wake(identity)

    async def take_snapshot(self) -> Saved:
        """Freeze the application of a guest that was booted, save the guest and end it.

        Returns:
            what was saved; its files are in the guest's directory, and nobody changes them any more.

        Raises:
            GuestError: the application could not be frozen.
            VmmError, OSError: it could not be saved.
        """
        await self.agent.freeze(for_launches=True)
        if not self._capabilities.holds_networks:
            await self._connection.cut()
        await self._vm.pause()
        written = await self._vm.save(lambda _saved: None)  # a build publishes it when it has been tried
        await self.end()
        return written.saved

    async def suspend(self) -> SuspendFigures:
        """Save the guest and end its VMM.

        When saving fails the guest runs on as if nothing had happened. One that stands still for want of space on the
        host's disk is saved with the write that waits, its application not frozen.

        Raises:
            GuestError, VmmError, OSError: it could not be saved; it still runs.
        """
        figures = await self._saving().suspend(self)
        if self._capabilities.holds_networks and self.agent.spares_connections:
            self._connection.hold(self._vm)
        await self.end()
        return figures

    async def draft(self, directory: Path) -> Checkpoint:
        """Begin a checkpoint; the guest is not touched.

        Args:
            directory: a new one, on the same file system.

        Raises:
            OSError: the file system cannot do it.
        """
        assert self._snapshot is not None
        await in_thread(link_root, self._snapshot, directory)
        return Checkpoint(self._snapshot.shape, await self._vm.draft(directory))

    async def capture(self, checkpoint: Checkpoint) -> None:
        """Take the guest's state at one instant and let it run on; the application stands still meanwhile.

        Raises:
            GuestError, VmmError, OSError: it could not be captured; the guest runs on.
        """
        await self._saving().capture(checkpoint)

    def _saving(self) -> Saving:
        agent = self.agent
        return Saving(
            self.directory, self._vm, self._capabilities, agent, self._space, self._connection.cut,
            lambda error: self._lose(agent, error),
        )  # fmt: skip

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


@contextlib.asynccontextmanager
async def ended_on_error(guest: Guest) -> AsyncIterator[None]:
    """End a guest where the block does not come to its end."""
    try:
        yield
    except BaseException:
        await guest.end()
        raise
