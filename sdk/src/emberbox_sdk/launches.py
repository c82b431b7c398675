"""What is asked for a new sandbox, and what the server says of one; nothing here sends anything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from emberbox_sdk.config import Config
from emberbox_sdk.results import SandboxInfo, State

SUSPENDED_S: Final = 28_800


def ingress(region: str) -> list[str]:
    """Return the network connectors of both ways in, for commands and for ports."""
    prefix = f"arn:aws:lambda:{region}:aws:network-connector:aws-network-connector"
    return [f"{prefix}:SHELL_INGRESS", f"{prefix}:HTTP_INGRESS"]


def ask(config: Config, arn: str, version: str | None) -> dict[str, Any]:
    """Return what RunMicrovm is asked for in any case."""
    return {
        "imageIdentifier": arn,
        "imageVersion": version,
        "ingressNetworkConnectors": ingress(config.region),
    }


def idle_policy(after_s: int | None, *, auto_resume: bool) -> dict[str, Any] | None:
    """Return when it is suspended, and whether a request resumes it; None where it never is."""
    if after_s is None:
        return None
    return {
        "maxIdleDurationSeconds": after_s,
        "suspendedDurationSeconds": SUSPENDED_S,
        "autoResumeEnabled": auto_resume,
    }


def read_info(item: Mapping[str, Any]) -> SandboxInfo:
    """Return an answer of GetMicrovm, or an item of ListMicrovms."""
    arn = str(item["imageArn"])
    return SandboxInfo(
        id=item["microvmId"],
        state=State(item["state"]),
        image=arn.rpartition(":")[2],
        version=item["imageVersion"],
        image_arn=arn,
        started_at=datetime.fromtimestamp(float(item["startedAt"]), UTC),
        reason=item.get("stateReason") or "",
    )
