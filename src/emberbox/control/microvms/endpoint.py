"""What an endpoint leads to: what ingress connectors let in there, and what its requests need of the microVM."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from emberbox.control.endpoints.ingress import lets_in
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.runners import Runners
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.causes import Actor, caused_by
from emberbox.model.endpoints import EndpointLimits, Unreachable, Upstream
from emberbox.model.errors import EmberboxError, ServiceError
from emberbox.store.microvms import MicrovmStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MicrovmEndpoint:
    """The endpoint of one microVM.

    Args:
        microvm_id: whose it is.
        runner: the microVM's owner; None when it has ended.
        limits_per_vcpu: what an endpoint takes for each processor.
    """

    microvm_id: str
    runner: MicrovmRunner | None
    limits_per_vcpu: EndpointLimits

    def limits(self) -> EndpointLimits:
        """Say what it takes; nothing is limited for a microVM that has ended."""
        if self.runner is None:
            return EndpointLimits()
        count, each = self.runner.version.request.size.vcpu_count, self.limits_per_vcpu
        return EndpointLimits(count * each.connections, count * each.requests_per_s)

    async def connect(self, port: int) -> Upstream:
        """Say where a guest's port is reached; wake the microVM first when its policy says so.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no applications in.
        """
        runner = self._living()
        if not lets_in(runner.microvm.request.ingress, "application"):
            raise Unreachable(f"{self.microvm_id} was run without HTTP_INGRESS")
        try:
            with caused_by(Actor.REQUEST, f"A request to port {port}."):
                reached = await runner.requests.reach(port)
        except EmberboxError as error:
            raise Unreachable(str(error)) from error
        if reached is None:
            raise Unreachable(f"{self.microvm_id} does not run")
        return reached

    async def wake(self) -> str:
        """See that the microVM runs, for a shell or a command in it; wake it first when its policy says so.

        Returns:
            its incarnation, as in `Upstream`.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no shells in.
        """
        return await self._in_shell_runner(lambda runner: runner.requests.wake())

    async def open_command(self, command: Command) -> GuestCommand:
        """Start a command; wake the microVM first when its policy says so.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no shells in.
            GuestError: it runs, but the command cannot be started.
        """
        return await self._in_shell_runner(lambda runner: runner.requests.open_command(command))

    async def _in_shell_runner(self, do: Callable[[MicrovmRunner], Awaitable[T | None]]) -> T:
        runner = self._living()
        if not lets_in(runner.microvm.request.ingress, "shell"):
            raise Unreachable(f"{self.microvm_id} was run without SHELL_INGRESS")
        try:
            done = await do(runner)
        except ServiceError as error:
            raise Unreachable(str(error)) from error
        if done is None:
            raise Unreachable(f"{self.microvm_id} does not run")
        return done

    def _living(self) -> MicrovmRunner:
        if self.runner is None:
            raise Unreachable(f"{self.microvm_id} has ended")
        return self.runner

    def doubt(self, port: int) -> None:
        """Take note that a connection to a guest's port has failed: it may be open elsewhere now."""
        if self.runner is not None:
            self.runner.requests.doubt(port)

    def note_bytes(self, *, from_client: bool) -> None:
        """Take note that bytes have crossed it.

        Args:
            from_client: whether some were a client's, on a stream that is open.
        """
        if self.runner is not None:
            self.runner.requests.note_bytes(from_client=from_client)


class EndpointDirectory:
    """Finds endpoints.

    Args:
        runners: the microVMs that have not ended.
        store: the rows of those that have.
        limits_per_vcpu: what an endpoint takes for each processor of its microVM.
    """

    def __init__(self, *, runners: Runners, store: MicrovmStore, limits_per_vcpu: EndpointLimits) -> None:
        self._runners = runners
        self._store = store
        self._limits = limits_per_vcpu

    def find(self, microvm_id: str) -> MicrovmEndpoint | None:
        """Return the endpoint of a microVM; None when it has ended, or never was. Reads no row."""
        runner = self._runners.find(microvm_id)
        return None if runner is None else MicrovmEndpoint(microvm_id, runner, self._limits)

    def find_by_label(self, label: str) -> MicrovmEndpoint | None:
        """Return the endpoint whose name begins with a label, also of a microVM that has ended; None without one.

        Raises:
            HostError: the database cannot be read.
        """
        runner = self._runners.find_by_label(label)
        if runner is not None:
            return MicrovmEndpoint(runner.id, runner, self._limits)
        ended = self._store.find_by_label(label)
        return None if ended is None else MicrovmEndpoint(ended.id, None, self._limits)
