"""The engines by name, and what people are told of those that a server has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ENGINE_NAMES: Final = ("qemu", "gvisor")
"""What settings and tags may say; `vmm/engines.py` makes them."""

ARM64_ENGINE: Final = "qemu-arm64"
"""QEMU that emulates AArch64 on another processor. Nobody names it: it is what versions for ARM_64 run on, where the
operator allows that (EMBERBOX_ARM64=emulate)."""


@dataclass(frozen=True, slots=True)
class EngineReport:
    """One engine that a server runs microVMs on.

    Args:
        name: one of `ENGINE_NAMES`, or `ARM64_ENGINE`.
        description: program, version, accelerator and processor in words.
        accelerator: `kvm`, `tcg`, or `systrap` of gVisor.
        is_default: it serves images that choose none.
    """

    name: str
    description: str
    accelerator: str
    is_default: bool
