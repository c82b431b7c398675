"""What a sandbox is given once, when it begins: its network, and its first process or its saved state."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

from emberbox.host.network.slots import GATEWAY_ADDRESS, GUEST_ADDRESS, GUEST_MAC, GUEST_PREFIX_LENGTH
from emberbox.host.runsc.control import Control
from emberbox.host.runsc.network import Link
from emberbox.model.errors import HostError
from emberbox.vmm.base import Network, Saved, Wire
from emberbox.vmm.gvisor.files import open_files


@dataclass(frozen=True, slots=True)
class Device:
    """What a guest's packets go through.

    Args:
        guest: a descriptor of the guest's end.
        nowhere: one of the other end, for the keeper, where that leads nowhere; None where it is a wire.
    """

    guest: int
    nowhere: int | None


@contextlib.asynccontextmanager
async def open_device(network: Network) -> AsyncIterator[Device]:
    """Open a guest's device, which is closed here after the block.

    Without a wire it leads nowhere: applications find the address that they have everywhere else, and the keeper
    refuses what they send.

    Raises:
        HostError: the wire's device cannot be opened.
    """
    if isinstance(network, Wire):
        wire = await network.open_device()
        try:
            yield Device(wire, None)
        finally:
            os.close(wire)
        return
    guest, nowhere = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with guest, nowhere:
        yield Device(guest.fileno(), nowhere.fileno())


async def connect(control: Control, device: Device) -> None:
    """Give a created sandbox its network: its own loopback, and the device.

    Raises:
        HostError: the sandbox refuses it.
    """
    await control.connect(Link(device.guest, GUEST_ADDRESS, GUEST_PREFIX_LENGTH, GATEWAY_ADDRESS, GUEST_MAC))


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
