"""Which requests the gateway passes straight to a port of a sandbox, by the name that they ask for."""

from __future__ import annotations

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.model.endpoints import Unreachable, Upstream
from emberbox.model.sandbox_names import OWN_PORTS, Address, read_label


class SandboxGate:
    """Knows the names of sandboxes.

    Args:
        door: says where ports are reached.
        tokens: what opens those of private sandboxes.
        domain: what names end with, in lower case.
    """

    def __init__(self, door: SandboxDoor, tokens: SandboxTokens, domain: str) -> None:
        self._door = door
        self._tokens = tokens
        self.domain = domain

    def find(self, label: str, token: str) -> Address | None:
        """Return where a request may go at once; None where E2B's API answers it, be it with a refusal.

        Args:
            label: the first label of the name.
            token: the one that it has for private sandboxes; empty where it has none.
        """
        address = read_label(label)
        if address is None or address.port in OWN_PORTS:
            return None
        sandbox = self._door.find(address.sandbox_id)
        return address if sandbox is not None and self._tokens.opens_ports(sandbox, token) else None

    async def connect(self, address: Address) -> Upstream:
        """Say where a port is reached; let the sandbox go on first, where that is what its user has asked for.

        Raises:
            Unreachable: it does not run.
        """
        sandbox = self._door.find(address.sandbox_id)
        if sandbox is None:
            raise Unreachable(f"the sandbox {address.sandbox_id} has ended")
        return await self._door.connect(sandbox, address.port)
