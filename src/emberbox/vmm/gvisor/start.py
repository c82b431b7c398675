"""What a sandbox is given once, when it begins: its network, and its first process or its saved state."""

from __future__ import annotations

import contextlib
import os
import socket

from emberbox.host.network.slots import GATEWAY_ADDRESS, GUEST_ADDRESS, GUEST_MAC, GUEST_PREFIX_LENGTH
from emberbox.host.runsc.control import Control
from emberbox.host.runsc.network import Link
from emberbox.model.errors import HostError
from emberbox.vmm.base import Network, Saved, Wire
from emberbox.vmm.gvisor.files import open_files


async def connect(control: Control, network: Network) -> None:
    """Give a created sandbox its network: its own loopback, and a device that is the guest's end of a wire.

    Without a wire the device leads nowhere: applications find the address that they have everywhere else.

    Raises:
        HostError: the wire's device cannot be opened, or the sandbox refuses it.
    """
    device = await network.open_device() if isinstance(network, Wire) else _open_nowhere()
    try:
        await control.connect(Link(device, GUEST_ADDRESS, GUEST_PREFIX_LENGTH, GATEWAY_ADDRESS, GUEST_MAC))
    finally:
        os.close(device)


def _open_nowhere() -> int:
    """Return a socket for packets that nobody gets."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.close()
    return ours.detach()


class Restoring:
    """Saved files that are open until a sandbox has loaded them: what becomes of their names meanwhile is no matter.

    Args:
        state: what is to be loaded.
    """

    def __init__(self, state: Saved) -> None:
        self._opened = contextlib.ExitStack()
        try:
            self._fds = open_files(self._opened, state)
        except OSError as error:
            self._opened.close()
            raise HostError(f"a saved file cannot be opened: {error.strerror}") from error

    async def restore(self, control: Control) -> None:
        """Load it into a sandbox, which runs then.

        Raises:
            SandboxError: it cannot.
        """
        await control.restore(*self._fds)

    def close(self) -> None:
        """Close the files; repeats are harmless."""
        self._opened.close()
