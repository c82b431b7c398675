"""What the gateway must know about microVMs; `control/microvms/endpoint.py` knows it."""

from __future__ import annotations

from typing import Protocol

from emberbox.guest.protocol import Command
from emberbox.guest.streams import GuestCommand
from emberbox.model.endpoints import EndpointLimits, Upstream
from emberbox.model.sandbox_names import Address


class Endpoint(Protocol):
    """What the endpoint of one microVM leads to. It is found anew for each request; its microVM may end meanwhile."""

    @property
    def microvm_id(self) -> str:
        """Whose it is."""
        ...

    def limits(self) -> EndpointLimits:
        """Say what it takes."""
        ...

    async def connect(self, port: int) -> Upstream:
        """Say where a guest's port is reached; wake the microVM first when its policy says so.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no applications in.
        """
        ...

    async def wake(self) -> str:
        """See that the microVM runs, for a shell or a command in it; wake it first when its policy says so.

        Returns:
            its incarnation, as in `Upstream`.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no shells in.
        """
        ...

    async def open_command(self, command: Command) -> GuestCommand:
        """Start a command; wake the microVM first when its policy says so.

        Raises:
            Unreachable: it does not run, and is not or cannot be woken; or it lets no shells in.
            GuestError: it runs, but the command cannot be started.
        """
        ...

    def doubt(self, port: int) -> None:
        """Take note that a connection to a guest's port has failed: it may be open elsewhere now."""
        ...

    def note_bytes(self, *, from_client: bool) -> None:
        """Take note that bytes have crossed it.

        Args:
            from_client: whether some were a client's, on a stream that is open.
        """
        ...


class Directory(Protocol):
    """Finds endpoints."""

    def find(self, microvm_id: str) -> Endpoint | None:
        """Return the endpoint of a microVM; None when it has ended, or never was."""
        ...

    def find_by_label(self, label: str) -> Endpoint | None:
        """Return the endpoint of a name, also of a microVM that has ended; None when there is no such name.

        Args:
            label: the first label of the name, in lower case.
        """
        ...


class SandboxNames(Protocol):
    """Finds sandboxes by names of E2B's form; `control/sandboxes/gate.py` does."""

    @property
    def domain(self) -> str:
        """What their names end with, in lower case."""
        ...

    def find(self, label: str, token: str) -> Address | None:
        """Return where a request may go at once; None where E2B's API answers it, be it with a refusal.

        Args:
            label: the first label of the name.
            token: the one that it has for private sandboxes; empty where it has none.
        """
        ...

    async def connect(self, address: Address) -> Upstream:
        """Say where a port is reached; let the sandbox go on first, where that is what its user has asked for.

        Raises:
            Unreachable: it does not run.
        """
        ...
