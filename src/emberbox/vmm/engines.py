"""The engines by name. Adding one is one entry here (docs/adding-an-engine.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from emberbox.vmm.base import VmmDriver
from emberbox.vmm.qemu.choice import make_driver as make_qemu
from emberbox.vmm.request import EngineRequest

MakeDriver = Callable[[EngineRequest], Awaitable[VmmDriver]]
"""Makes an engine, or raises a HostError that says why it does not work here and what to do."""

ENGINES: Final[Mapping[str, MakeDriver]] = {"qemu": make_qemu}

DEFAULT_ENGINE: Final = "qemu"
