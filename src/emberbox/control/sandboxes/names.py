"""How templates, snapshots and their tags may be called."""

from __future__ import annotations

import re
from typing import Final

from emberbox.model.errors import ValidationError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Those of images: `MicrovmImageName` of the service model."""

_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def check_name(name: str) -> None:
    """Check the name of a template or a snapshot.

    Raises:
        ValidationError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ValidationError(f"name: {name!r} must be 1 to 64 letters, digits, - and _")


def check_tag(tag: str) -> None:
    """Check a tag.

    Raises:
        ValidationError: it is none.
    """
    if not _TAG.fullmatch(tag):
        raise ValidationError(f"tag: {tag!r} must be 1 to 128 letters, digits, - . and _")
