"""The engine that the servers of this run have, and what a test may ask of it where engines differ.

`EMBERBOX_ENGINE` chooses it. What gVisor cannot do at all is in tests/gvisor_unfit.toml; here is what both do, each in
its way.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

NAME: Final = os.environ.get("EMBERBOX_ENGINE", "qemu")
"""Named to every server, so that what `auto` finds here decides no test."""

MIB: Final = 1 << 20


@dataclass(frozen=True)
class EngineFacts:
    """What one engine does.

    Args:
        title: its name in messages.
        accelerators: what its guests' instructions may be run by.
        fixed_bytes: what a suspend writes of a guest that has merely lived: what its kernel, interpreter and network
            have changed; where all memory in use is written, that.
        kernel_is_debians: a guest has the kernel under the home.
        holds_streams: what is open to a guest can go on over a suspend, in networks of its own; else it is closed.
        stalls: a guest that meets a full disk of the host's stands still until there is room; it can be held up before.
        interrupted: calls of blocking_calls.py that a suspend may end with EINTR, as a stop may on Linux (signal(7)).
        disk_is_memory: what a guest writes to files is saved with its memory.
    """

    title: str
    accelerators: frozenset[str]
    fixed_bytes: int
    kernel_is_debians: bool
    holds_streams: bool
    stalls: bool
    interrupted: frozenset[str]
    disk_is_memory: bool


_QEMU: Final = EngineFacts(
    title="QEMU",
    accelerators=frozenset({"kvm", "tcg"}),
    fixed_bytes=12 * MIB,
    kernel_is_debians=True,
    holds_streams=True,
    stalls=True,
    interrupted=frozenset({"epoll_wait", "epoll_wait with a limit", "semop", "sigwaitinfo"}),
    disk_is_memory=False,
)
_GVISOR: Final = EngineFacts(
    title="gVisor",
    accelerators=frozenset({"systrap"}),
    fixed_bytes=40 * MIB,
    kernel_is_debians=False,
    holds_streams=False,
    stalls=False,
    interrupted=frozenset({"epoll_wait with a limit", "msgrcv", "semop", "sigwaitinfo"}),
    disk_is_memory=True,
)

ENGINE: Final = _GVISOR if NAME == "gvisor" else _QEMU
