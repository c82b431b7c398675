"""What a caller can ask of images, versions and connectors, and what becomes of it in which state.

Every (state, action) pair is decided here (dossier, sections 1.1, 1.2, 2.3 and 8.2); repeats are idempotent where AWS
is. What an image that is busy answers, code and text, is what was recorded on AWS
(`tests/unit/edges/aws/test_recordings.py`). The table of microVMs is beside their transitions in `model/states.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emberbox.model.errors import ConflictError, ServiceError, ValidationError
from emberbox.model.states import ConnectorState, ImageState, Verdict, VersionState


class ImageAction(StrEnum):
    """What a caller can ask of an image."""

    UPDATE = "update"
    DELETE = "delete"
    DELETE_VERSION = "delete a version"
    SET_VERSION_STATUS = "set the status of a version"


class VersionAction(StrEnum):
    """What a caller can ask of an image version."""

    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    DELETE = "delete"


class ConnectorAction(StrEnum):
    """What a caller can ask of a network connector; `USE` is naming it in RunMicrovm or in an image."""

    UPDATE = "update"
    DELETE = "delete"
    USE = "use"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a caller is told who asks an image for something at the wrong time.

    Args:
        error: the error, which says the code.
        text: what it says of the image, with its `{arn}` or its `{state}`.
    """

    error: type[ServiceError]
    text: str

    def of(self, arn: str, state: ImageState) -> ServiceError:
        """Return the error for an image in a state."""
        return self.error(self.text.format(arn=arn, state=state))


_V = Verdict
_I, _IA = ImageState, ImageAction
_S, _SA = VersionState, VersionAction
_C, _CA = ConnectorState, ConnectorAction

_UPDATE_LATER: Final = Refusal(ValidationError, "Cannot update MicroVM Image in its current state: {arn}")
_DELETE_LATER: Final = Refusal(ValidationError, "Cannot delete MicroVM image in its current state: {arn}")
_BUSY: Final = Refusal(ConflictError, "MicroVM Image is already in state: {state}")

IMAGE_VERDICTS: Final[Mapping[tuple[ImageState, ImageAction], Verdict | Refusal]] = {
    (_I.CREATING, _IA.UPDATE): _UPDATE_LATER,
    (_I.CREATING, _IA.DELETE): _DELETE_LATER,
    (_I.CREATING, _IA.DELETE_VERSION): _BUSY,
    (_I.CREATING, _IA.SET_VERSION_STATUS): _BUSY,
    (_I.CREATED, _IA.UPDATE): _V.DO,
    (_I.CREATED, _IA.DELETE): _V.DO,
    (_I.CREATED, _IA.DELETE_VERSION): _V.DO,
    (_I.CREATED, _IA.SET_VERSION_STATUS): _V.DO,
    (_I.CREATE_FAILED, _IA.UPDATE): _V.DO,
    (_I.CREATE_FAILED, _IA.DELETE): _V.DO,
    (_I.CREATE_FAILED, _IA.DELETE_VERSION): _V.DO,
    (_I.CREATE_FAILED, _IA.SET_VERSION_STATUS): _V.DO,
    (_I.UPDATING, _IA.UPDATE): _UPDATE_LATER,
    (_I.UPDATING, _IA.DELETE): _DELETE_LATER,
    (_I.UPDATING, _IA.DELETE_VERSION): _BUSY,
    (_I.UPDATING, _IA.SET_VERSION_STATUS): _BUSY,
    (_I.UPDATED, _IA.UPDATE): _V.DO,
    (_I.UPDATED, _IA.DELETE): _V.DO,
    (_I.UPDATED, _IA.DELETE_VERSION): _V.DO,
    (_I.UPDATED, _IA.SET_VERSION_STATUS): _V.DO,
    (_I.UPDATE_FAILED, _IA.UPDATE): _V.DO,
    (_I.UPDATE_FAILED, _IA.DELETE): _V.DO,
    (_I.UPDATE_FAILED, _IA.DELETE_VERSION): _V.DO,
    (_I.UPDATE_FAILED, _IA.SET_VERSION_STATUS): _V.DO,
    (_I.DELETING, _IA.UPDATE): _UPDATE_LATER,
    (_I.DELETING, _IA.DELETE): _V.IGNORE,
    (_I.DELETING, _IA.DELETE_VERSION): _BUSY,
    (_I.DELETING, _IA.SET_VERSION_STATUS): _BUSY,
    (_I.DELETE_FAILED, _IA.UPDATE): _UPDATE_LATER,
    (_I.DELETE_FAILED, _IA.DELETE): _V.DO,
    (_I.DELETE_FAILED, _IA.DELETE_VERSION): _BUSY,
    (_I.DELETE_FAILED, _IA.SET_VERSION_STATUS): _BUSY,
    (_I.DELETED, _IA.UPDATE): _UPDATE_LATER,
    (_I.DELETED, _IA.DELETE): _V.IGNORE,
    (_I.DELETED, _IA.DELETE_VERSION): _BUSY,
    (_I.DELETED, _IA.SET_VERSION_STATUS): _BUSY,
}
"""Recorded are the refusals in CREATING (DELETE) and in UPDATING (all four). UPDATE was seen to answer 409 as well; the
clients that wait for an update to end wait for the 400. The others are told alike."""


def refuse_image(arn: str, state: ImageState, action: ImageAction) -> ServiceError:
    """Return the refusal of an action, for an image that is busy or became so meanwhile.

    Args:
        arn: the image's.
        state: of the image; a settled one was busy when it was asked for.
        action: what is refused.
    """
    verdict = IMAGE_VERDICTS[state, action]
    if isinstance(verdict, Verdict):
        return refuse_image(arn, ImageState.UPDATING, action)
    return verdict.of(arn, state)


VERSION_VERDICTS: Final[Mapping[tuple[VersionState, VersionAction], Verdict]] = {
    (_S.PENDING, _SA.ACTIVATE): _V.REFUSE,
    (_S.PENDING, _SA.DEACTIVATE): _V.IGNORE,
    (_S.PENDING, _SA.DELETE): _V.CONFLICT,
    (_S.IN_PROGRESS, _SA.ACTIVATE): _V.REFUSE,
    (_S.IN_PROGRESS, _SA.DEACTIVATE): _V.IGNORE,
    (_S.IN_PROGRESS, _SA.DELETE): _V.CONFLICT,
    (_S.SUCCESSFUL, _SA.ACTIVATE): _V.DO,
    (_S.SUCCESSFUL, _SA.DEACTIVATE): _V.DO,
    (_S.SUCCESSFUL, _SA.DELETE): _V.DO,
    (_S.FAILED, _SA.ACTIVATE): _V.REFUSE,
    (_S.FAILED, _SA.DEACTIVATE): _V.IGNORE,
    (_S.FAILED, _SA.DELETE): _V.DO,
    (_S.DELETING, _SA.ACTIVATE): _V.REFUSE,
    (_S.DELETING, _SA.DEACTIVATE): _V.IGNORE,
    (_S.DELETING, _SA.DELETE): _V.IGNORE,
    (_S.DELETED, _SA.ACTIVATE): _V.REFUSE,
    (_S.DELETED, _SA.DEACTIVATE): _V.IGNORE,
    (_S.DELETED, _SA.DELETE): _V.IGNORE,
    (_S.DELETE_FAILED, _SA.ACTIVATE): _V.REFUSE,
    (_S.DELETE_FAILED, _SA.DEACTIVATE): _V.IGNORE,
    (_S.DELETE_FAILED, _SA.DELETE): _V.DO,
}
"""A version that is not SUCCESSFUL is INACTIVE already, so deactivating it changes nothing."""

CONNECTOR_VERDICTS: Final[Mapping[tuple[ConnectorState, ConnectorAction], Verdict]] = {
    (_C.PENDING, _CA.UPDATE): _V.CONFLICT,
    (_C.PENDING, _CA.DELETE): _V.CONFLICT,
    (_C.PENDING, _CA.USE): _V.REFUSE,
    (_C.ACTIVE, _CA.UPDATE): _V.DO,
    (_C.ACTIVE, _CA.DELETE): _V.DO,
    (_C.ACTIVE, _CA.USE): _V.DO,
    (_C.INACTIVE, _CA.UPDATE): _V.CONFLICT,
    (_C.INACTIVE, _CA.DELETE): _V.DO,
    (_C.INACTIVE, _CA.USE): _V.REFUSE,
    (_C.FAILED, _CA.UPDATE): _V.CONFLICT,
    (_C.FAILED, _CA.DELETE): _V.DO,
    (_C.FAILED, _CA.USE): _V.REFUSE,
    (_C.DELETING, _CA.UPDATE): _V.CONFLICT,
    (_C.DELETING, _CA.DELETE): _V.IGNORE,
    (_C.DELETING, _CA.USE): _V.REFUSE,
    (_C.DELETE_FAILED, _CA.UPDATE): _V.CONFLICT,
    (_C.DELETE_FAILED, _CA.DELETE): _V.DO,
    (_C.DELETE_FAILED, _CA.USE): _V.REFUSE,
}
"""Updates are for ACTIVE connectors alone; INACTIVE is in the model and nothing here makes a connector so."""
