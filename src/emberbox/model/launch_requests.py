"""What a microVM is asked to be when it is launched, with every default filled in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_DURATION_S: Final = 28_800
"""The longest life of a microVM, and the default."""


class Ingress(StrEnum):
    """What a managed ingress connector lets in at an endpoint (`control/endpoints/ingress.py` says what that is)."""

    HTTP = "HTTP_INGRESS"
    SHELL = "SHELL_INGRESS"
    ALL = "ALL_INGRESS"
    NONE = "NO_INGRESS"


@dataclass(frozen=True, slots=True)
class IdlePolicy:
    """What becomes of a microVM whose endpoint nobody uses.

    Args:
        max_idle_s: after so many seconds without a byte it is suspended.
        suspended_s: after so many seconds in that state it ends; 0 ends it in the place of a suspend.
        resumes_itself: whether a request at its endpoint resumes it.
    """

    max_idle_s: int
    suspended_s: int
    resumes_itself: bool


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a microVM's output goes.

    Args:
        is_on: whether it goes anywhere; it has no names otherwise.
        group: the log group; None is the image's.
        stream: the stream in it; None is one of the microVM's own.
    """

    is_on: bool = True
    group: str | None = None
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What a microVM is asked to be.

    Args:
        region: the region that it was launched in.
        ingress: what its endpoint lets in, in the order and as often as it was named.
        egress: the ARNs of its egress connectors; the first counts.
        execution_role: the ARN of the role whose credentials it gets; None gives it none.
        idle_policy: None lets it run for ever.
        log_target: None is the image's log group.
        hook_payload: what its /run hook gets.
        max_duration_s: how many seconds it lives, suspended time included.
    """

    region: str
    ingress: tuple[Ingress, ...]
    egress: tuple[str, ...]
    execution_role: str | None = None
    idle_policy: IdlePolicy | None = None
    log_target: LogTarget | None = None
    hook_payload: str | None = None
    max_duration_s: int = MAX_DURATION_S

    @property
    def resumes_itself(self) -> bool:
        """Whether a request at its endpoint resumes it."""
        return self.idle_policy is not None and self.idle_policy.resumes_itself
