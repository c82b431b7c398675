"""Tags of resources: what AWS refuses of them, and those that have a meaning here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emberbox.model.engines import ENGINE_NAMES
from emberbox.model.errors import ValidationError

TAGS_MAX: Final = 50
RESERVED_PREFIX: Final = "aws:"
SUSPEND_FAILURE_TAG: Final = "emberbox:suspend-hook-failure"
TERMINATE, KEEP_RUNNING = "terminate", "keep-running"
ENGINE_TAG: Final = "emberbox:engine"

_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    SUSPEND_FAILURE_TAG: (TERMINATE, KEEP_RUNNING),
    ENGINE_TAG: ENGINE_NAMES,
}
"""What the tags that have a meaning here may say."""


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse what AWS refuses of any resource's tags ("Tagging AWS resources": 50 each, no key with `aws:`).

    Raises:
        ValidationError: there are too many, a key is reserved, or the value of a key of ours means nothing.
    """
    if len(tags) > TAGS_MAX:
        raise ValidationError(f"A resource can have at most {TAGS_MAX} tags; this one would have {len(tags)}")
    for key in tags:
        if key.lower().startswith(RESERVED_PREFIX):
            raise ValidationError(f"Tag key '{key}' is reserved: keys must not begin with {RESERVED_PREFIX}")
    for key, values in _VALUES.items():
        if (value := tags.get(key, values[0])) not in values:
            raise ValidationError(f"The value '{value}' of the tag '{key}' must be {' or '.join(values)}")


def survives_failed_suspend(tags: Mapping[str, str]) -> bool:
    """Say whether a microVM whose /suspend hook fails goes on running; on AWS it is terminated.

    It is a tag of the image, since every AWS client can set tags and the model has no member for it.
    """
    return tags.get(SUSPEND_FAILURE_TAG) == KEEP_RUNNING


def engine_of(tags: Mapping[str, str]) -> str:
    """Return the engine that the versions of an image are built for from now on; empty where it is the server's.

    It is a tag for the same reason.
    """
    return tags.get(ENGINE_TAG, "")
