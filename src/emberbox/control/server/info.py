"""DescribeServer: what server this is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from emberbox.model.caller import Caller, Handler


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Answers DescribeServer.

    Args:
        region: the region played.
        accelerator: `kvm` or `tcg`.
        network: `tap` or `user`.
        started_at: when the server started.
    """

    region: str
    accelerator: str
    network: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"DescribeServer": self.describe}

    async def describe(self, _caller: Caller, _parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeServer."""
        return {
            "version": _version(),
            "region": self.region,
            "accelerator": self.accelerator,
            "network": self.network,
            "startedAt": self.started_at,
        }


def _version() -> str:
    try:
        return metadata.version("emberbox")
    except metadata.PackageNotFoundError:
        return "sources"
