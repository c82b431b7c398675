"""Listings: in pages, with prefixes, and with what lies behind a delimiter rolled up into one entry."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar
from urllib.parse import quote

from emberbox.s3.call import Call, Handler, Reply, moment, owner
from emberbox.s3.errors import S3Error
from emberbox.s3.index import Index, Upload, Version

PAGE: Final = 1000


class _Keyed(Protocol):
    @property
    def key(self) -> bytes: ...


_Item = TypeVar("_Item", bound=_Keyed)
_After = TypeVar("_After", int, str)


@dataclass(slots=True)
class _Page(Generic[_Item]):
    """What one listing shows: entries and common prefixes together are at most what was asked for."""

    items: list[_Item] = field(default_factory=list)
    prefixes: list[bytes] = field(default_factory=list)
    is_truncated: bool = False
    last: _Item | bytes | None = None  # the last of both


def successor(prefix: bytes) -> bytes | None:
    """Return the least key that is greater than all that begin with a prefix; None where there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def walk(
    fetch: Callable[[bytes, Any, int], Sequence[_Item]],
    after: Callable[[_Item], tuple[bytes, Any]],
    start: tuple[bytes, Any],
    prefix: bytes,
    delimiter: bytes,
    most: int,
) -> _Page[_Item]:
    """Return a page of a listing.

    Args:
        fetch: returns entries from a position on (a key, and what tells entries of the same key apart).
        after: returns the position right after an entry.
        start: where the page begins.
        prefix: of all keys.
        delimiter: keys that hold it behind the prefix are rolled up; empty for none.
        most: entries and prefixes of the page.
    """
    page: _Page[_Item] = _Page()
    position = (max(start[0], prefix), start[1] if start[0] >= prefix else None)
    while True:
        batch = fetch(*position, most + 1)
        for item in batch:
            if item.key < position[0]:
                continue  # rolled up already
            if len(page.items) + len(page.prefixes) >= most:
                page.is_truncated = most > 0
                return page
            end = item.key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                rolled = item.key[: end + len(delimiter)]
                page.prefixes.append(rolled)
                page.last = rolled
                behind = successor(rolled)
                if behind is None:
                    return page
                position = (behind, None)
            else:
                page.items.append(item)
                page.last = item
                position = after(item)
        if len(batch) <= most:
            return page


class Listings:
    """Answers the operations.

    Args:
        index: the rows.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "ListObjects": self.list_objects,
            "ListObjectsV2": self.list_objects_v2,
            "ListObjectVersions": self.list_versions,
            "ListMultipartUploads": self.list_uploads,
        }

    def list_objects(self, call: Call) -> Reply:
        """ListObjects, with a marker."""
        asked = _Asked(call, "MaxKeys")
        marker = call.parameters.get("Marker", "").encode()
        page = self._objects(call, asked, asked.after(marker))
        last = page.last.key if isinstance(page.last, Version) else page.last
        members = asked.members(page) | {
            "Name": call.bucket.name,
            "Contents": [_show_object(one, asked, call) for one in page.items],
            "Marker": asked.text(marker),
            "NextMarker": asked.text(last) if page.is_truncated and asked.delimiter and last is not None else None,
        }
        return Reply(members)

    def list_objects_v2(self, call: Call) -> Reply:
        """ListObjectsV2, with tokens."""
        asked = _Asked(call, "MaxKeys")
        token = call.parameters.get("ContinuationToken")
        begin = call.parameters.get("StartAfter", "").encode()
        start = _open_token(token) if token is not None else (begin + b"\0" if begin else b"")
        page = self._objects(call, asked, start)
        more = call.parameters.get("FetchOwner", False)
        members = asked.members(page) | {
            "Name": call.bucket.name,
            "Contents": [_show_object(one, asked, call, with_owner=more) for one in page.items],
            "KeyCount": len(page.items) + len(page.prefixes),
            "ContinuationToken": token,
            "NextContinuationToken": _token(page) if page.is_truncated else None,
            "StartAfter": asked.text(begin) if begin else None,
        }
        return Reply(members)

    def _objects(self, call: Call, asked: _Asked, start: bytes) -> _Page[Version]:
        end = successor(asked.prefix)
        with self._index.reading() as rows:
            return walk(
                lambda key, _, limit: rows.list_latest(call.bucket.name, key, end, limit),
                lambda item: (item.key + b"\0", None),
                (start, None),
                asked.prefix,
                asked.delimiter,
                asked.most,
            )

    def list_versions(self, call: Call) -> Reply:
        """ListObjectVersions."""
        asked = _Asked(call, "MaxKeys")
        marker = call.parameters.get("KeyMarker", "").encode()
        version_marker = call.parameters.get("VersionIdMarker", "")
        end = successor(asked.prefix)
        with self._index.reading() as rows:
            start: tuple[bytes, int | None] = (asked.after(marker), None)
            if version_marker:
                found = rows.version(call.bucket.name, marker, version_marker)
                start = (marker, found.sequence) if found is not None else start
            page = walk(
                lambda key, below, limit: rows.list_versions(call.bucket.name, key, below, end, limit),
                lambda item: (item.key, item.sequence),
                start,
                asked.prefix,
                asked.delimiter,
                asked.most,
            )
        members = asked.members(page) | {
            "Name": call.bucket.name,
            "KeyMarker": asked.text(marker),
            "VersionIdMarker": version_marker,
            "Versions": [_show_version(one, asked, call) for one in page.items if not one.is_marker],
            "DeleteMarkers": [_show_marker(one, asked, call) for one in page.items if one.is_marker],
        }
        if page.is_truncated and page.last is not None:
            is_item = isinstance(page.last, Version)
            members["NextKeyMarker"] = asked.text(page.last.key if isinstance(page.last, Version) else page.last)
            members["NextVersionIdMarker"] = page.last.version_id if is_item else None  # type: ignore[union-attr]
        return Reply(members)

    def list_uploads(self, call: Call) -> Reply:
        """ListMultipartUploads."""
        asked = _Asked(call, "MaxUploads")
        marker = call.parameters.get("KeyMarker", "").encode()
        upload_marker = call.parameters.get("UploadIdMarker") if marker else None
        goes_on_within = bool(upload_marker) and not asked.names_group(marker)
        start = (marker, upload_marker) if goes_on_within else (asked.after(marker), None)
        end = successor(asked.prefix)
        with self._index.reading() as rows:
            page = walk(
                lambda key, after, limit: rows.list_uploads(call.bucket.name, key, after, end, limit),
                lambda item: (item.key, item.id),
                start,
                asked.prefix,
                asked.delimiter,
                asked.most,
            )
        members = asked.members(page) | {
            "Bucket": call.bucket.name,
            "KeyMarker": asked.text(marker),
            "UploadIdMarker": upload_marker or "",
            "Uploads": [_show_upload(one, asked, call) for one in page.items],
        }
        if page.is_truncated and page.last is not None:
            is_item = isinstance(page.last, Upload)
            members["NextKeyMarker"] = asked.text(page.last.key if isinstance(page.last, Upload) else page.last)
            members["NextUploadIdMarker"] = page.last.id if is_item else None  # type: ignore[union-attr]
        return Reply(members)


class _Asked:
    """What all listings are asked for."""

    def __init__(self, call: Call, most: str) -> None:
        asked = call.parameters
        self._most_name = most
        self.prefix = asked.get("Prefix", "").encode()
        self.delimiter = asked.get("Delimiter", "").encode()
        self.encoding = asked.get("EncodingType")
        if self.encoding not in (None, "url"):
            raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request",
                          ArgumentName="encoding-type")  # fmt: skip
        self.stated = asked.get(most, PAGE)
        if self.stated < 0:
            raise S3Error("InvalidArgument", ArgumentName="max-keys", ArgumentValue=str(self.stated))
        self.most = min(self.stated, PAGE)

    def names_group(self, marker: bytes) -> bool:
        """Say whether a marker is a common prefix, which stands for all keys below it."""
        return bool(self.delimiter) and marker.startswith(self.prefix) and marker.endswith(self.delimiter)

    def after(self, marker: bytes) -> bytes:
        """Return where a listing goes on that had come to a key or common prefix; an empty one begins it."""
        following = successor(marker) if self.names_group(marker) else None
        return following or (marker + b"\0" if marker else b"")

    def text(self, key: bytes) -> str:
        """Return a key as the client wants it."""
        return quote(key, safe="/-_.~*") if self.encoding else key.decode()

    def members(self, page: _Page[Any]) -> dict[str, Any]:
        """Return what all listings show."""
        return {
            "Prefix": self.text(self.prefix),
            "Delimiter": self.text(self.delimiter) if self.delimiter else None,
            self._most_name: self.stated,
            "EncodingType": self.encoding,
            "IsTruncated": page.is_truncated,
            "CommonPrefixes": [{"Prefix": self.text(one)} for one in page.prefixes],
        }


def _token(page: _Page[Version]) -> str:
    last = page.last
    key = last.key + b"\0" if isinstance(last, Version) else successor(last or b"") or b""
    return base64.urlsafe_b64encode(b"1" + key).decode()


def _open_token(token: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(token)
    except ValueError:
        raw = b""
    if raw[:1] != b"1":
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect",
                      ArgumentName="continuation-token")  # fmt: skip
    return raw[1:]


def _show_object(version: Version, asked: _Asked, call: Call, *, with_owner: bool = True) -> dict[str, Any]:
    return {
        "Key": asked.text(version.key),
        "LastModified": moment(version.modified_ms),
        "ETag": f'"{version.etag}"',
        "ChecksumAlgorithm": [version.checksum_algorithm] if version.checksum else [],
        "ChecksumType": version.checksum_type or None,
        "Size": version.size,
        "StorageClass": version.headers.get("x-amz-storage-class", "STANDARD"),
        "Owner": owner(call.bucket.account_id) if with_owner else None,
    }


def _show_version(version: Version, asked: _Asked, call: Call) -> dict[str, Any]:
    return _show_object(version, asked, call) | {"VersionId": version.version_id, "IsLatest": version.is_latest}


def _show_marker(version: Version, asked: _Asked, call: Call) -> dict[str, Any]:
    return {
        "Key": asked.text(version.key),
        "VersionId": version.version_id,
        "IsLatest": version.is_latest,
        "LastModified": moment(version.modified_ms),
        "Owner": owner(call.bucket.account_id),
    }


def _show_upload(upload: Upload, asked: _Asked, call: Call) -> dict[str, Any]:
    return {
        "UploadId": upload.id,
        "Key": asked.text(upload.key),
        "Initiated": moment(upload.initiated_ms),
        "StorageClass": upload.headers.get("x-amz-storage-class", "STANDARD"),
        "Owner": owner(call.bucket.account_id),
        "Initiator": {"ID": upload.initiator, "DisplayName": upload.initiator},
        "ChecksumAlgorithm": upload.checksum_algorithm or None,
        "ChecksumType": upload.checksum_type or None,
    }
