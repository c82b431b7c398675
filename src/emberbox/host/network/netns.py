"""Work inside network namespaces: sockets that are bound there, and the tap devices of guests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from emberbox.host.network.slots import Slot
from emberbox.host.runsc.network import open_packet_socket
from emberbox.model.errors import HostError

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000

GUEST_END = "guest0"
"""The device that packet sockets of guests are bound to; the host's network has no part in what comes there."""

T = TypeVar("T")


class NamespaceThread:
    """A thread of its own to enter namespaces with: setns(2) moves the calling thread alone."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, "netns")

    async def open(self, slot: Slot, work: Callable[[], int]) -> int:
        """Return the descriptor that `work` opens in a slot's namespace; one that nobody waits for any more is closed.

        Raises:
            HostError: it cannot be opened.
        """
        opening = asyncio.get_running_loop().run_in_executor(self._threads, _in_namespace, slot.namespace_path, work)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise

    async def bind(self, slot: Slot, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        """Return a socket that is bound in a slot's namespace.

        Raises:
            HostError: it cannot be bound.
        """
        return socket.socket(fileno=await self.open(slot, lambda: _bound(kind, address, port).detach()))

    def close(self) -> None:
        """End the thread, once it has done what it is doing."""
        self._threads.shutdown()


def _close_unused(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


def _in_namespace(namespace: Path, work: Callable[[], T]) -> T:
    """Run `work` in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, _CLONE_NEWNET):
            raise HostError(f"the namespace {namespace.name} cannot be entered: {os.strerror(ctypes.get_errno())}")
        try:
            return work()
        finally:
            libc.setns(home, _CLONE_NEWNET)
    finally:
        os.close(there)
        os.close(home)


def _bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address of the thread's network namespace."""
    bound = socket.socket(socket.AF_INET, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise HostError(f"{address}:{port} of a microVM's network cannot be bound: {error.strerror}") from error
    return bound


def open_tap() -> int:
    """Return a new descriptor of the namespace's tap device.

    Raises:
        HostError: the kernel does not give one.
    """
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"tap0", _IFF_TAP | _IFF_NO_PI))
    except OSError as error:
        os.close(tap)
        raise HostError(f"the tap device cannot be opened: {os.strerror(error.errno or 0)}") from error
    return tap


def make_tap() -> int:
    """Make a tap device that stays, and set the namespace's switches."""
    _TUNSETPERSIST = 0x400454CB  # noqa: N806 - the kernel's name
    tap = open_tap()
    fcntl.ioctl(tap, _TUNSETPERSIST, 1)
    _set_switches("tap0", "up0")
    return tap


def open_packets() -> int:
    """Return a new packet socket at the guest's end of the namespace's pair.

    Raises:
        HostError: the kernel does not give one.
    """
    try:
        return open_packet_socket(GUEST_END)
    except OSError as error:
        raise HostError(f"the guest's device cannot be opened: {os.strerror(error.errno or 0)}") from error


def prepare_packets() -> int:
    """Set the switches of a namespace with a pair, and return such a socket."""
    _set_switches("tap0", "up0", GUEST_END)
    return open_packets()


def _set_switches(*interfaces: str) -> None:
    """Switch on what a slot needs: /proc/sys/net is that of the thread."""
    switches = Path("/proc/sys/net/ipv4")
    (switches / "ip_forward").write_text("1")
    for interface in interfaces:
        (switches / "conf" / interface / "route_localnet").write_text("1")
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("1")
