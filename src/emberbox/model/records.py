"""The resources as values: what the store returns and the control plane works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from emberbox.model.causes import Actor
from emberbox.model.clock import Instant
from emberbox.model.image_requests import ImageRequest
from emberbox.model.launch_requests import LaunchRequest
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import BuildState, ImageState, MicrovmState, VersionState, VersionStatus

LOCAL_HOST: Final = "local"
"""The machine that the server runs on."""


@dataclass(frozen=True, slots=True)
class Image:
    """A microVM image: a name with versions."""

    id: str
    account_id: str
    name: str
    arn: str
    state: ImageState
    latest_active_version: str | None
    latest_failed_version: str | None
    tags: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """One version of an image; `request` is what it was asked to be, with defaults filled in."""

    image_id: str
    version: str
    state: VersionState
    status: VersionStatus
    request: ImageRequest
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Build:
    """The build of one version for one kind of processor; `sizes` are those of its snapshot."""

    id: str
    image_id: str
    version: str
    state: BuildState
    state_reason: str | None
    sizes: SnapshotSizes | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Microvm:
    """One microVM. `incarnation` counts its starts: launch and resumes.

    Its durations are counted from `started` and `suspended`, not from the wall clock's `started_at`. One with
    `own_base` starts from a snapshot of its own, not from its image: it is a fork, or was rolled back.

    `host` is the machine that has it. `generation` counts those who may change it (docs/decisions/0028): whoever holds
    an earlier one moves it no more. `forked_from` is the microVM that a fork goes on from, which may have ended.
    """

    id: str
    account_id: str
    endpoint_label: str
    image_id: str
    image_arn: str
    image_version: str
    state: MicrovmState
    state_reason: str | None
    request: LaunchRequest
    incarnation: int
    started_at: datetime
    terminated_at: datetime | None
    started: Instant
    suspended: Instant | None = None
    own_base: bool = False
    host: str = LOCAL_HOST
    generation: int = 1
    forked_from: str | None = None


class ListedMicrovm(NamedTuple):
    """What a list tells of a microVM."""

    id: str
    image_arn: str
    image_version: str
    state: MicrovmState
    started_at: datetime
    forked_from: str | None = None


class LogGroup(NamedTuple):
    """A log group: its account and its name."""

    account_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a microVM's state; `duration_ms` is how long it took to get there."""

    id: int
    account_id: str
    microvm_id: str
    from_state: MicrovmState | None
    state: MicrovmState
    actor: Actor
    reason: str
    duration_ms: int
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line of a log stream; `timestamp` is in milliseconds since 1970."""

    id: int
    group: str
    stream: str
    timestamp: int
    message: str
