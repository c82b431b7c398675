"""The state machines, as tables.

The states are the service model's (enums `MicrovmImageState`, `MicrovmImageVersionState`,
`MicrovmImageVersionStatus`, `BuildState`, `MicrovmState`, `NetworkConnectorState`); the arrows come from the fact
dossier, sections 1 and 8.2.

    image     CREATING ─► CREATED | CREATE_FAILED;   settled ─► UPDATING ─► UPDATED | UPDATE_FAILED
              settled ─► DELETING ─► gone | DELETE_FAILED
    version   PENDING ─► IN_PROGRESS ─► SUCCESSFUL | FAILED ─► DELETING ─► gone | DELETE_FAILED
    build     PENDING ─► IN_PROGRESS ─► SUCCESSFUL | FAILED
    connector PENDING ─► ACTIVE | FAILED;   any but PENDING ─► DELETING ─► gone | DELETE_FAILED
    microVM   PENDING ─► RUNNING ◄─► SUSPENDED (over SUSPENDING);   any ─► TERMINATING ─► TERMINATED
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

State = TypeVar("State", bound=StrEnum)


class ImageState(StrEnum):
    """State of an image."""

    CREATING = "CREATING"
    CREATED = "CREATED"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATING = "UPDATING"
    UPDATED = "UPDATED"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETING = "DELETING"
    DELETE_FAILED = "DELETE_FAILED"
    DELETED = "DELETED"


class VersionState(StrEnum):
    """State of an image version."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETED = "DELETED"
    DELETE_FAILED = "DELETE_FAILED"


class VersionStatus(StrEnum):
    """Whether a version may be launched."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class BuildState(StrEnum):
    """State of a build."""

    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"


class MicrovmState(StrEnum):
    """State of a microVM."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


class ConnectorState(StrEnum):
    """State of a network connector, and of each of its versions."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETE_FAILED = "DELETE_FAILED"


class UpdateStatus(StrEnum):
    """How the last update of a network connector went."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


IMAGE_TRANSITIONS: Final[Mapping[ImageState, frozenset[ImageState]]] = {
    ImageState.CREATING: frozenset({ImageState.CREATED, ImageState.CREATE_FAILED}),
    ImageState.CREATED: frozenset({ImageState.UPDATING, ImageState.DELETING}),
    ImageState.CREATE_FAILED: frozenset({ImageState.UPDATING, ImageState.DELETING}),
    ImageState.UPDATING: frozenset({ImageState.UPDATED, ImageState.UPDATE_FAILED}),
    ImageState.UPDATED: frozenset({ImageState.UPDATING, ImageState.DELETING}),
    ImageState.UPDATE_FAILED: frozenset({ImageState.UPDATING, ImageState.DELETING}),
    ImageState.DELETING: frozenset({ImageState.DELETED, ImageState.DELETE_FAILED}),
    ImageState.DELETE_FAILED: frozenset({ImageState.DELETING}),
    ImageState.DELETED: frozenset(),
}

VERSION_TRANSITIONS: Final[Mapping[VersionState, frozenset[VersionState]]] = {
    VersionState.PENDING: frozenset({VersionState.IN_PROGRESS, VersionState.FAILED}),
    VersionState.IN_PROGRESS: frozenset({VersionState.SUCCESSFUL, VersionState.FAILED}),
    VersionState.SUCCESSFUL: frozenset({VersionState.DELETING}),
    VersionState.FAILED: frozenset({VersionState.DELETING}),
    VersionState.DELETING: frozenset({VersionState.DELETED, VersionState.DELETE_FAILED}),
    VersionState.DELETE_FAILED: frozenset({VersionState.DELETING}),
    VersionState.DELETED: frozenset(),
}

BUILD_TRANSITIONS: Final[Mapping[BuildState, frozenset[BuildState]]] = {
    BuildState.PENDING: frozenset({BuildState.IN_PROGRESS, BuildState.FAILED}),
    BuildState.IN_PROGRESS: frozenset({BuildState.SUCCESSFUL, BuildState.FAILED}),
    BuildState.SUCCESSFUL: frozenset(),
    BuildState.FAILED: frozenset(),
}

CONNECTOR_TRANSITIONS: Final[Mapping[ConnectorState, frozenset[ConnectorState]]] = {
    ConnectorState.PENDING: frozenset({ConnectorState.ACTIVE, ConnectorState.FAILED}),
    ConnectorState.ACTIVE: frozenset({ConnectorState.INACTIVE, ConnectorState.DELETING}),
    ConnectorState.INACTIVE: frozenset({ConnectorState.ACTIVE, ConnectorState.DELETING}),
    ConnectorState.FAILED: frozenset({ConnectorState.DELETING}),
    ConnectorState.DELETING: frozenset({ConnectorState.DELETE_FAILED}),
    ConnectorState.DELETE_FAILED: frozenset({ConnectorState.DELETING}),
}

MICROVM_TRANSITIONS: Final[Mapping[MicrovmState, frozenset[MicrovmState]]] = {
    MicrovmState.PENDING: frozenset({MicrovmState.RUNNING, MicrovmState.TERMINATING}),
    MicrovmState.RUNNING: frozenset({MicrovmState.SUSPENDING, MicrovmState.TERMINATING}),
    MicrovmState.SUSPENDING: frozenset(
        {
            MicrovmState.SUSPENDED,
            MicrovmState.RUNNING,
            MicrovmState.TERMINATING,
        }  # RUNNING: it could not be saved
    ),
    MicrovmState.SUSPENDED: frozenset({MicrovmState.RUNNING, MicrovmState.TERMINATING}),
    MicrovmState.TERMINATING: frozenset({MicrovmState.TERMINATED}),
    MicrovmState.TERMINATED: frozenset(),
}


def find_way(transitions: Mapping[State, frozenset[State]], source: State, target: State) -> tuple[State, ...] | None:
    """Return the states on the shortest way from one to another, the last one included; None where none leads there."""
    ways: list[tuple[State, ...]] = [()]
    seen = {source}
    while ways:
        way = ways.pop(0)
        here = way[-1] if way else source
        if here == target:
            return way
        ahead = sorted(transitions[here] - seen)
        seen.update(ahead)
        ways += [(*way, state) for state in ahead]
    return None


LAUNCHABLE_IMAGE_STATES: Final = frozenset(
    {ImageState.CREATED, ImageState.UPDATING, ImageState.UPDATED, ImageState.UPDATE_FAILED}
)
"""Older active versions stay runnable while a newer one is built or after it failed: a deployment must not
take down what runs. The documentation names only CREATED and UPDATED."""


class Action(StrEnum):
    """What a caller can ask of a microVM."""

    SUSPEND = "suspend"
    RESUME = "resume"
    TERMINATE = "terminate"
    CHECKPOINT = "checkpoint"


class Verdict(StrEnum):
    """What becomes of an action in a state: a CONFLICT passes by itself (409), a refusal does not (400)."""

    DO = "do"
    IGNORE = "ignore"
    CONFLICT = "conflict"
    REFUSE = "refuse"
    ENDED = "ended"


_S, _A, _V = MicrovmState, Action, Verdict

VERDICTS: Final[Mapping[tuple[MicrovmState, Action], Verdict]] = {
    (_S.PENDING, _A.SUSPEND): _V.CONFLICT,
    (_S.PENDING, _A.RESUME): _V.CONFLICT,
    (_S.PENDING, _A.TERMINATE): _V.DO,
    (_S.PENDING, _A.CHECKPOINT): _V.CONFLICT,
    (_S.RUNNING, _A.SUSPEND): _V.DO,
    (_S.RUNNING, _A.RESUME): _V.IGNORE,
    (_S.RUNNING, _A.TERMINATE): _V.DO,
    (_S.RUNNING, _A.CHECKPOINT): _V.DO,
    (_S.SUSPENDING, _A.SUSPEND): _V.IGNORE,
    (_S.SUSPENDING, _A.RESUME): _V.CONFLICT,
    (_S.SUSPENDING, _A.TERMINATE): _V.DO,
    (_S.SUSPENDING, _A.CHECKPOINT): _V.CONFLICT,
    (_S.SUSPENDED, _A.SUSPEND): _V.IGNORE,
    (_S.SUSPENDED, _A.RESUME): _V.DO,
    (_S.SUSPENDED, _A.TERMINATE): _V.DO,
    (_S.SUSPENDED, _A.CHECKPOINT): _V.DO,
    (_S.TERMINATING, _A.SUSPEND): _V.CONFLICT,
    (_S.TERMINATING, _A.RESUME): _V.CONFLICT,
    (_S.TERMINATING, _A.TERMINATE): _V.IGNORE,
    (_S.TERMINATING, _A.CHECKPOINT): _V.CONFLICT,
    (_S.TERMINATED, _A.SUSPEND): _V.ENDED,
    (_S.TERMINATED, _A.RESUME): _V.ENDED,
    (_S.TERMINATED, _A.TERMINATE): _V.IGNORE,
    (_S.TERMINATED, _A.CHECKPOINT): _V.ENDED,
}
"""Every (state, action) pair; CHECKPOINT is to take, fork or go back to one. Repeats are idempotent
where AWS is (dossier, section 2.4)."""
