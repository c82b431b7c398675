"""Tags of resources: what AWS refuses of them, and the one that has a meaning here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emberbox.model.errors import ValidationError

TAGS_MAX: Final = 50
RESERVED_PREFIX: Final = "aws:"
SUSPEND_FAILURE_TAG: Final = "emberbox:suspend-hook-failure"
TERMINATE, KEEP_RUNNING = "terminate", "keep-running"


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
    effect = tags.get(SUSPEND_FAILURE_TAG, TERMINATE)
    if effect not in (TERMINATE, KEEP_RUNNING):
        raise ValidationError(
            f"The value '{effect}' of the tag '{SUSPEND_FAILURE_TAG}' must be {TERMINATE} or {KEEP_RUNNING}"
        )


def survives_failed_suspend(tags: Mapping[str, str]) -> bool:
    """Say whether a microVM whose /suspend hook fails goes on running; on AWS it is terminated.

    It is a tag of the image, since every AWS client can set tags and the model has no member for it.
    """
    return tags.get(SUSPEND_FAILURE_TAG) == KEEP_RUNNING
