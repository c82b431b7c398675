"""What there is of a host, and what microVMs use of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a microVM uses.

    Attributes:
        memory_bytes: of its VMM, with its share of what it has in common with others; 0 when there is none.
        changed_bytes: guest memory changed since the last start.
        disk_bytes: stored in files of its own.
        cpu_s: processor time since the last start.
    """

    memory_bytes: int
    changed_bytes: int
    disk_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class HostFigures:
    """What a host has, and what of it is free.

    Attributes:
        cpu_count: processors.
        load_average: processes that ran or waited for a processor, over the last minute.
        memory_total: bytes.
        memory_available: bytes that can be had without swapping.
        disk_free: bytes where all state is.
        disk_reserve: bytes below which nothing new begins.
    """

    cpu_count: int
    load_average: float
    memory_total: int
    memory_available: int
    disk_free: int
    disk_reserve: int


@dataclass(frozen=True, slots=True)
class MicrovmUsage:
    """What a microVM uses."""

    microvm_id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class PooledUsage:
    """What a microVM uses that is prepared for whoever launches the image's version next."""

    image_arn: str
    image_version: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class HostReport:
    """A host, and what an account's microVMs use of it."""

    figures: HostFigures
    microvms: Sequence[MicrovmUsage]
    pooled: Sequence[PooledUsage]
