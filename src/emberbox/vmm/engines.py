"""The engines by name. Adding one is one entry here (docs/adding-an-engine.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from emberbox.host.network.slots import DeviceKind
from emberbox.vmm.base import VmmDriver
from emberbox.vmm.gvisor.choice import make_driver as make_gvisor
from emberbox.vmm.qemu.choice import make_driver as make_qemu
from emberbox.vmm.request import EngineRequest

MakeDriver = Callable[[EngineRequest], Awaitable[VmmDriver]]
"""Makes an engine, or raises a HostError that says why it does not work here and what to do."""


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine.

    Args:
        make: makes it.
        device: what a `Wire` opens for it.
    """

    make: MakeDriver
    device: DeviceKind


ENGINES: Final[Mapping[str, EngineEntry]] = {
    "qemu": EngineEntry(make_qemu, DeviceKind.TAP),
    "gvisor": EngineEntry(make_gvisor, DeviceKind.PACKETS),
}

AUTO: Final = "auto"
DEFAULT_ENGINE: Final = "qemu"
"""What `auto` stands for."""


def choose(name: str) -> EngineEntry:
    """Return the engine that the setting EMBERBOX_ENGINE names."""
    return ENGINES[DEFAULT_ENGINE if name == AUTO else name]
