"""Tags of objects and buckets: as a header, as a document, and what of them is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from emberbox.s3.errors import S3Error

OBJECT_TAGS_MAX: Final = 10
BUCKET_TAGS_MAX: Final = 50
_KEY_MAX, _VALUE_MAX = 128, 256

Tags = list[tuple[str, str]]


def from_header(text: str | None) -> Tags:
    """Read `x-amz-tagging`.

    Raises:
        S3Error: InvalidArgument or InvalidTag.
    """
    if not text:
        return []
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise S3Error(
            "InvalidArgument",
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag "
            "name duplicates.",
        ) from None
    return check(pairs, OBJECT_TAGS_MAX)


def from_members(tagging: Mapping[str, Any], most: int = OBJECT_TAGS_MAX) -> Tags:
    """Read a Tagging structure.

    Raises:
        S3Error: InvalidTag.
    """
    return check([(tag["Key"], tag["Value"]) for tag in tagging["TagSet"]], most)


def check(tags: Tags, most: int) -> Tags:
    """Return tags that are allowed.

    Raises:
        S3Error: InvalidTag or, of too many, BadRequest's text.
    """
    if len(tags) > most:
        raise S3Error("InvalidTag", f"Object tags cannot be greater than {most}")
    if len({key for key, _ in tags}) != len(tags):
        raise S3Error("InvalidTag", "Cannot provide multiple Tags with the same key")
    for key, value in tags:
        if not 1 <= len(key) <= _KEY_MAX or key.lower().startswith("aws:"):
            raise S3Error("InvalidTag", "The TagKey you have provided is invalid", TagKey=key[:_KEY_MAX])
        if len(value) > _VALUE_MAX:
            raise S3Error("InvalidTag", "The TagValue you have provided is invalid", TagKey=key)
    return tags


def show(tags: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Return tags as members of an answer."""
    return [{"Key": key, "Value": value} for key, value in tags]
