"""What server this is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata

from emberbox.model.engines import EngineReport


def find_version() -> str:
    """Return Emberbox's version, or `sources` where it is not installed as a package."""
    try:
        return metadata.version("emberbox")
    except metadata.PackageNotFoundError:
        return "sources"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What server this is.

    Args:
        region: the region played.
        accelerator: of its own engine: `kvm`, `tcg`, or `systrap` of gVisor.
        network: `tap` or `user`.
        list_engines: returns the engines that it has now, its own first.
        started_at: when the server started.
        version: Emberbox's.
    """

    region: str
    accelerator: str
    network: str
    list_engines: Callable[[], Sequence[EngineReport]]
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    version: str = field(default_factory=find_version)
