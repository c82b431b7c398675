"""Conditional requests: If-Match and its kin, for reading, copying and writing ("Conditional requests")."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from emberbox.s3.call import moment
from emberbox.s3.errors import NotModifiedError, S3Error
from emberbox.s3.index import Version


def check_write(parameters: Mapping[str, Any], current: Version | None) -> None:
    """Hold a write's conditions against what is there; to be called in the transaction that writes.

    Raises:
        S3Error: PreconditionFailed, or NoSuchKey where nothing is there to match.
    """
    exists = current is not None and not current.is_marker
    unless = parameters.get("IfNoneMatch")
    if unless is not None:
        if unless.strip() != "*":
            raise S3Error("NotImplemented", "If-None-Match of a write can only be *.", Header="If-None-Match")
        if exists:
            raise S3Error("PreconditionFailed", Condition="If-None-Match")
    wanted = parameters.get("IfMatch")
    if wanted is not None:
        if current is None or not exists:
            raise S3Error("NoSuchKey")
        if not _matches(wanted, current.etag):
            raise S3Error("PreconditionFailed", Condition="If-Match")


def check_read(parameters: Mapping[str, Any], version: Version, headers: dict[str, str]) -> None:
    """Hold a read's conditions against the object (RFC 9110, section 13.2.2).

    Args:
        parameters: of the request.
        version: what it would get.
        headers: of a 304.

    Raises:
        S3Error: PreconditionFailed.
        NotModifiedError: the client has it.
    """
    failed = _failed(parameters, version, "")
    if failed in ("If-None-Match", "If-Modified-Since"):
        raise NotModifiedError(headers)
    if failed:
        raise S3Error("PreconditionFailed", Condition=failed)


def check_copy(parameters: Mapping[str, Any], version: Version) -> None:
    """Hold a copy's conditions against its source.

    Raises:
        S3Error: PreconditionFailed.
    """
    if failed := _failed(parameters, version, "CopySource"):
        raise S3Error("PreconditionFailed", Condition=f"x-amz-copy-source-{failed}")


def _failed(parameters: Mapping[str, Any], version: Version, prefix: str) -> str | None:
    """Return the name of the condition that does not hold."""
    match, none_match = parameters.get(f"{prefix}IfMatch"), parameters.get(f"{prefix}IfNoneMatch")
    before: datetime | None = parameters.get(f"{prefix}IfUnmodifiedSince")
    after: datetime | None = parameters.get(f"{prefix}IfModifiedSince")
    modified = moment(version.modified_ms).replace(microsecond=0)
    if match is not None:
        if not _matches(match, version.etag):
            return "If-Match"
    elif before is not None and modified > before:
        return "If-Unmodified-Since"
    if none_match is not None:
        return "If-None-Match" if _matches(none_match, version.etag) else None
    if after is not None and modified <= after:
        return "If-Modified-Since"
    return None


def _matches(stated: str, etag: str) -> bool:
    candidates = {one.strip().removeprefix("W/").strip('"') for one in stated.split(",")}
    return etag in candidates or "*" in candidates
