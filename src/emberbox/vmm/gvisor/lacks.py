"""What of an engine gVisor does not do; its capabilities say so, and nobody asks."""

from __future__ import annotations

from emberbox.model.errors import HostError, VmmError
from emberbox.vmm.base import HeldNetwork


class Lacks:
    """The methods of `emberbox.vmm.base.Vm` that belong to capabilities which it lacks."""

    async def reach(self, port: int) -> tuple[str, int]:
        """It has no network of its own."""
        raise VmmError(f"gVisor opens no way to port {port} by itself")

    def hold_network(self) -> HeldNetwork:
        """A saved sandbox has lost its connections to outside."""
        raise HostError("gVisor resets connections when it saves a guest")

    async def is_stalled(self) -> bool:
        """It never stops by itself."""
        raise VmmError("gVisor does not stop a guest whose disk is full")

    async def wait_stalled(self) -> None:
        """It never does."""
        raise VmmError("gVisor does not stop a guest whose disk is full")

    async def hold_writes(self, *, held: bool) -> None:  # noqa: ARG002 - the interface's shape
        """What a guest writes is in its memory."""
        raise VmmError("gVisor does not hold up what a guest writes")
