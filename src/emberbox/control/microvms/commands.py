"""What can be asked of microVMs."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.control.requests.idempotency import ClientRequest
from emberbox.control.requests.paging import PageRequest
from emberbox.model.launch_requests import IdlePolicy, Ingress, LogTarget
from emberbox.model.states import VersionStatus


@dataclass(frozen=True, slots=True)
class RunMicrovm:
    """Asks for a new microVM.

    Args:
        image: the name of one of the caller's images.
        named: the image as the caller named it, for a refusal.
        version: one of its versions; None takes the newest that may be launched.
        ingress: what its endpoint lets in; nothing is what applications need.
        egress: the ARNs of its egress connectors; nothing takes the version's.
        execution_role: the ARN of the role whose credentials it gets.
        idle_policy: None lets it run for ever.
        log_target: None is the image's log group.
        hook_payload: what its /run hook gets.
        max_duration_s: how many seconds it lives; None is as long as can be.
        client_request: tells a repeat.
        inactive_too: a version that is INACTIVE is launched too, where one is named.
    """

    image: str
    named: str
    version: str | None = None
    ingress: tuple[Ingress, ...] = ()
    egress: tuple[str, ...] = ()
    execution_role: str | None = None
    idle_policy: IdlePolicy | None = None
    log_target: LogTarget | None = None
    hook_payload: str | None = None
    max_duration_s: int | None = None
    client_request: ClientRequest | None = None
    inactive_too: bool = False


@dataclass(frozen=True, slots=True)
class ListMicrovms:
    """Asks for microVMs, newest first.

    Args:
        page: which page.
        image: of this image of the caller's alone, by its name.
        version: of this version alone.
    """

    page: PageRequest
    image: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class CreateAuthToken:
    """Asks for a token that opens ports of a microVM.

    Args:
        microvm_id: whose.
        minutes: how long it opens them.
        ports: pairs of first and last port, both included; not checked yet.
    """

    microvm_id: str
    minutes: int
    ports: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class CreateShellAuthToken:
    """Asks for a token that opens shells in a microVM.

    Args:
        microvm_id: whose.
        minutes: how long it opens them.
    """

    microvm_id: str
    minutes: int


@dataclass(frozen=True, slots=True)
class SnapshotMicrovm:
    """Asks for a new image version from a microVM.

    Args:
        microvm_id: which.
        status: whether the version may be launched.
        client_request: tells a repeat.
    """

    microvm_id: str
    status: VersionStatus = VersionStatus.ACTIVE
    client_request: ClientRequest | None = None


@dataclass(frozen=True, slots=True)
class ForkMicrovm:
    """Asks for microVMs that go on from this instant of another.

    Args:
        microvm_id: the other.
        count: how many.
        hook_payload: what their /run hooks get; None is what the other's got.
        client_request: tells a repeat.
    """

    microvm_id: str
    count: int = 1
    hook_payload: str | None = None
    client_request: ClientRequest | None = None


@dataclass(frozen=True, slots=True)
class RestoreMicrovm:
    """Asks for a microVM to become what it was at a snapshot of its own.

    Args:
        microvm_id: which.
        version: the image version that the snapshot made.
    """

    microvm_id: str
    version: str
