"""What is known when an engine is made for a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from emberbox.vmm.base import Cage


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a server wants of its engine.

    Args:
        home: the server's, where it may have a program of its own.
        runsc: the setting EMBERBOX_RUNSC: a program, or empty.
        accelerator: the setting EMBERBOX_ACCELERATOR: `auto`, `kvm` or `tcg`.
        cage: that of a microVM, to try in it what works.
        saved: how many snapshots and suspended microVMs of the home were made with each accelerator.
        emulates_arm64: the operator allows that AArch64 is emulated (EMBERBOX_ARM64).
    """

    home: Path
    runsc: str
    accelerator: str
    cage: Cage
    saved: Mapping[str, int]
    emulates_arm64: bool = False
