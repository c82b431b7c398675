"""The state machines, as tables.

The states are the service model's (enums `MicrovmImageState`, `MicrovmImageVersionState`,
`MicrovmImageVersionStatus`, `BuildState`, `MicrovmState`); the arrows come from the fact dossier, section 1.

    image     CREATING ─► CREATED | CREATE_FAILED;   settled ─► DELETING ─► gone
    version   PENDING ─► IN_PROGRESS ─► SUCCESSFUL | FAILED
    build     PENDING ─► IN_PROGRESS ─► SUCCESSFUL | FAILED
    microVM   PENDING ─► RUNNING ◄─► SUSPENDED (over SUSPENDING);   any ─► TERMINATING ─► TERMINATED
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


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

BUILD_TRANSITIONS: Final[Mapping[BuildState, frozenset[BuildState]]] = {
    BuildState.PENDING: frozenset({BuildState.IN_PROGRESS, BuildState.FAILED}),
    BuildState.IN_PROGRESS: frozenset({BuildState.SUCCESSFUL, BuildState.FAILED}),
    BuildState.SUCCESSFUL: frozenset(),
    BuildState.FAILED: frozenset(),
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


class Verdict(StrEnum):
    """What becomes of an action in a state."""

    DO = "do"
    IGNORE = "ignore"
    CONFLICT = "conflict"
    ENDED = "ended"


_S, _A, _V = MicrovmState, Action, Verdict

VERDICTS: Final[Mapping[tuple[MicrovmState, Action], Verdict]] = {
    (_S.PENDING, _A.SUSPEND): _V.CONFLICT,
    (_S.PENDING, _A.RESUME): _V.CONFLICT,
    (_S.PENDING, _A.TERMINATE): _V.DO,
    (_S.RUNNING, _A.SUSPEND): _V.DO,
    (_S.RUNNING, _A.RESUME): _V.IGNORE,
    (_S.RUNNING, _A.TERMINATE): _V.DO,
    (_S.SUSPENDING, _A.SUSPEND): _V.IGNORE,
    (_S.SUSPENDING, _A.RESUME): _V.CONFLICT,
    (_S.SUSPENDING, _A.TERMINATE): _V.DO,
    (_S.SUSPENDED, _A.SUSPEND): _V.IGNORE,
    (_S.SUSPENDED, _A.RESUME): _V.DO,
    (_S.SUSPENDED, _A.TERMINATE): _V.DO,
    (_S.TERMINATING, _A.SUSPEND): _V.CONFLICT,
    (_S.TERMINATING, _A.RESUME): _V.CONFLICT,
    (_S.TERMINATING, _A.TERMINATE): _V.IGNORE,
    (_S.TERMINATED, _A.SUSPEND): _V.ENDED,
    (_S.TERMINATED, _A.RESUME): _V.ENDED,
    (_S.TERMINATED, _A.TERMINATE): _V.IGNORE,
}
"""Every (state, action) pair; repeats are idempotent where AWS is (dossier, section 2.4)."""
