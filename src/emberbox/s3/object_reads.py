"""Reading objects: whole, in part, and what is known of them; and holding what a copy is made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from emberbox.s3.addressing import read_key
from emberbox.s3.call import Call, Handler, Reply, moment
from emberbox.s3.checksums import member
from emberbox.s3.conditions import check_read
from emberbox.s3.described import STANDARD, check_headers
from emberbox.s3.errors import S3Error
from emberbox.s3.files import Files
from emberbox.s3.http import Content
from emberbox.s3.index import NULL, Bucket, Index, Version
from emberbox.s3.permissions import object_arn
from emberbox.s3.ranges import find_extent
from emberbox.s3.serialise import http_date
from emberbox.s3.versions import find, find_version

_READ_BYTES: Final = 4 << 20
_OVERRIDES: Final = {
    "ResponseCacheControl": "Cache-Control",
    "ResponseContentDisposition": "Content-Disposition",
    "ResponseContentEncoding": "Content-Encoding",
    "ResponseContentLanguage": "Content-Language",
    "ResponseContentType": "Content-Type",
    "ResponseExpires": "Expires",
}


class ObjectReads:
    """Answers the operations that read, and lends what is read to others.

    Args:
        index: the rows.
        files: the contents.
    """

    def __init__(self, index: Index, files: Files) -> None:
        self._index = index
        self._files = files

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "GetObject": self.get,
            "HeadObject": self.head,
            "GetObjectAttributes": self.attributes,
        }

    def get(self, call: Call) -> Reply:
        """GetObject: whole, a range, or one part."""
        version = self._find_held(call)
        try:
            reply, offset, size = self._answer(call, version)
            names = [name for name, _ in version.pieces]
            pieces = tuple(self._slices(version.pieces, offset, size))
        except BaseException:
            self._release(version)
            raise
        return replace(reply, content=Content(pieces, lambda: self._files.release(names)))

    def head(self, call: Call) -> Reply:
        """HeadObject."""
        with self._index.reading() as rows:
            version = find(rows, call)
        reply, _, size = self._answer(call, version)
        return replace(reply, length=size)

    def _answer(self, call: Call, version: Version) -> tuple[Reply, int, int]:
        """Return the answer's head, and which bytes are its body."""
        asked = call.parameters
        headers = self._headers(call, version)
        check_read(asked, version, {name: headers[name] for name in ("ETag", "Last-Modified")})
        offset, size, more = find_extent(asked, version)
        if not more and asked.get("ChecksumMode") == "ENABLED" and version.checksum:
            headers[f"x-amz-checksum-{version.checksum_algorithm.lower()}"] = version.checksum
            headers["x-amz-checksum-type"] = version.checksum_type
        for name, wire in _OVERRIDES.items():
            if name in asked:
                headers[wire] = call.request_text(name)
        check_headers(headers.values())
        return Reply(headers=headers | more, status=206 if more else 200), offset, size

    def _headers(self, call: Call, version: Version) -> dict[str, str]:
        headers = {
            "Last-Modified": http_date(moment(version.modified_ms)),
            "ETag": f'"{version.etag}"',
            "Accept-Ranges": "bytes",
            **version.headers,
            **{f"x-amz-meta-{name}": value for name, value in version.user_metadata.items()},
        }
        if call.bucket.versioning or version.version_id != NULL:
            headers["x-amz-version-id"] = version.version_id
        if version.tags:
            headers["x-amz-tagging-count"] = str(len(version.tags))
        return headers

    def attributes(self, call: Call) -> Reply:
        """GetObjectAttributes."""
        with self._index.reading() as rows:
            version = find(rows, call)
        wanted = set(call.parameters.get("ObjectAttributes", ()))
        if not wanted:
            raise S3Error("InvalidArgument", "x-amz-object-attributes is empty.")
        everything: dict[str, Any] = {
            "ETag": version.etag,
            "StorageClass": version.headers.get("x-amz-storage-class", STANDARD),
            "ObjectSize": version.size,
        }
        if version.checksum:
            everything["Checksum"] = {
                member(version.checksum_algorithm): version.checksum,
                "ChecksumType": version.checksum_type,
            }
        if version.parts is not None:
            everything["ObjectParts"] = _show_parts(version, call)
        members = {name: value for name, value in everything.items() if name in wanted}
        members["LastModified"] = moment(version.modified_ms)
        members["VersionId"] = version.version_id if call.bucket.versioning else None
        return Reply(members)

    def read(self, version: Version, offset: int, size: int) -> Iterator[bytes]:
        """Yield bytes of a version that is held."""
        for path, start, length in self._slices(version.pieces, offset, size):
            with path.open("rb") as file:
                file.seek(start)
                left = length
                while left:
                    data = file.read(min(_READ_BYTES, left))
                    if not data:
                        raise OSError(f"{path} is shorter than it was")
                    left -= len(data)
                    yield data

    def _slices(self, pieces: Sequence[tuple[str, int]], offset: int, size: int) -> Iterator[tuple[Path, int, int]]:
        """Return the files that hold so many bytes from an offset on, with offset and size in each."""
        for name, length in pieces:
            if size <= 0:
                return
            if offset < length:
                taken = min(length - offset, size)
                yield self._files.path(name), offset, taken
                size -= taken
                offset = 0
            else:
                offset -= length

    def _find_held(self, call: Call) -> Version:
        while True:
            with self._index.reading() as rows:
                version = find(rows, call)
            if self._files.hold([name for name, _ in version.pieces]):
                return version

    def _release(self, version: Version) -> None:
        self._files.release([name for name, _ in version.pieces])

    @contextlib.contextmanager
    def source(self, call: Call) -> Iterator[tuple[Version, Bucket]]:
        """Hold the version that `x-amz-copy-source` names.

        Raises:
            S3Error: there is none, or the caller may not read it.
        """
        bucket_name, key, version_id = _read_source(call.parameters["CopySource"])
        action = "s3:GetObject" if version_id is None else "s3:GetObjectVersion"
        if not call.may(action, object_arn(bucket_name, key)):
            raise S3Error("AccessDenied")
        while True:
            with self._index.reading() as rows:
                bucket = rows.bucket(bucket_name)
                if bucket is None:
                    raise S3Error("NoSuchBucket", BucketName=bucket_name)
                expected = call.parameters.get("ExpectedSourceBucketOwner", bucket.account_id)
                if bucket.account_id != call.caller.account_id or bucket.account_id != expected:
                    raise S3Error("AccessDenied")
                version = find_version(rows, bucket_name, key, version_id)
            if self._files.hold([name for name, _ in version.pieces]):
                break
        try:
            yield version, bucket
        finally:
            self._release(version)


def _read_source(text: str) -> tuple[str, bytes, str | None]:
    path, _, version = text.partition("?versionId=")
    bucket, slash, key = unquote_to_bytes(path).removeprefix(b"/").partition(b"/")
    if path.startswith("arn:"):
        raise S3Error("NotImplemented", "Access points are not implemented.", Header="x-amz-copy-source")
    if not slash or not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
                      ArgumentName="x-amz-copy-source")  # fmt: skip
    return bucket.decode("utf-8", "replace"), read_key(key), version or None


def _show_parts(version: Version, call: Call) -> dict[str, Any]:
    parts = version.parts or []
    after = call.parameters.get("PartNumberMarker", 0)
    most = min(call.parameters.get("MaxParts", 1000), 1000)
    shown = [part for part in parts if part[0] > after][:most]
    name = member(version.checksum_algorithm)
    return {
        "TotalPartsCount": len(parts),
        "PartNumberMarker": after,
        "NextPartNumberMarker": shown[-1][0] if shown else 0,
        "MaxParts": most,
        "IsTruncated": bool(shown) and shown[-1][0] < parts[-1][0],
        "Parts": [{"PartNumber": number, "Size": size, name: value} for number, size, value in shown],
    }
