"""The descriptor of a guest's tap device: opened for QEMU, or taken over from one that ends."""

from __future__ import annotations

import os

from emberbox.host.descriptors import take_descriptor

_DEVICE = "/dev/net/tun"


class HeldTap:
    """An open tap device, with the packets that wait in it; see `emberbox.vmm.base.HeldNetwork`.

    Args:
        fd: its descriptor, which is this object's from then on.
    """

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    @classmethod
    def take_from(cls, pid: int) -> HeldTap:
        """Take the device over from a QEMU that is about to end.

        Raises:
            HostError: it has none, or may not be looked at.
        """
        return cls(take_descriptor(pid, _DEVICE))

    def fileno(self) -> int:
        """Return the descriptor, which stays this object's."""
        assert self._fd is not None, "a network that was let go is not used again"
        return self._fd

    def close(self) -> None:
        """Close the device; repeats are harmless."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
