"""Operations on objects: put, get, copy, delete, and what is kept beside the content."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from emberbox.s3 import acls, tags
from emberbox.s3.addressing import read_key
from emberbox.s3.call import Call, Handler, Reply, moment, now_ms
from emberbox.s3.checksums import DEFAULT, member, new_hash
from emberbox.s3.checksums import encode as encode_checksum
from emberbox.s3.conditions import check_copy, check_read, check_write
from emberbox.s3.errors import S3Error
from emberbox.s3.files import Files
from emberbox.s3.http import Content
from emberbox.s3.index import NULL, Bucket, Index, Pieces, Rows, Version
from emberbox.s3.parse import parse_document, payload_member
from emberbox.s3.permissions import object_arn
from emberbox.s3.serialise import http_date

FULL_OBJECT, COMPOSITE = "FULL_OBJECT", "COMPOSITE"
METADATA_BYTES_MAX: Final = 2048
DELETE_MAX: Final = 1000
_READ_BYTES: Final = 4 << 20
_RANGE: Final = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")
_UNFIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_STANDARD: Final = "STANDARD"
_CONTENT_HEADERS: Final = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
}
_PLACEMENT: Final = (  # what a copy does not take over from its source
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
)
_OVERRIDES: Final = {
    "ResponseCacheControl": "Cache-Control",
    "ResponseContentDisposition": "Content-Disposition",
    "ResponseContentEncoding": "Content-Encoding",
    "ResponseContentLanguage": "Content-Language",
    "ResponseContentType": "Content-Type",
    "ResponseExpires": "Expires",
}
_ECHOED: Final = _PLACEMENT[2:]


class Objects:
    """Answers the operations.

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
            "PutObject": self.put,
            "GetObject": self.get,
            "HeadObject": self.head,
            "CopyObject": self.copy,
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
            "GetObjectAttributes": self.attributes,
            "GetObjectTagging": self.get_tags,
            "PutObjectTagging": self.put_tags,
            "DeleteObjectTagging": self.delete_tags,
            "GetObjectAcl": self.get_acl,
            "PutObjectAcl": self.put_acl,
        }

    # --- writing

    def put(self, call: Call) -> Reply:
        """PutObject."""
        described = describe(call)
        with self._index.reading() as rows:  # again when it is stored; this spares the client the upload
            check_write(call.parameters, rows.latest(call.bucket.name, call.key))
        with self._files.writing() as new:
            digests = call.write_body(new)
            new.finish()
            algorithm = digests.algorithm or DEFAULT
            version = Version(
                bucket=call.bucket.name,
                key=call.key,
                size=new.size,
                etag=digests.etag,
                modified_ms=now_ms(),
                pieces=[(new.name, new.size)],
                checksum_algorithm=algorithm,
                checksum=digests.checksum(algorithm),
                checksum_type=FULL_OBJECT,
                **described,
            )
            return Reply(*self.store(version, call.parameters, call.bucket))

    def store(
        self, version: Version, parameters: Mapping[str, Any], bucket: Bucket
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Store a new version whose files are on the disk; return members and headers of the answer.

        Raises:
            S3Error: a condition of the write does not hold.
        """
        with self._index.writing() as rows:
            check_write(parameters, rows.latest(version.bucket, version.key))
            version_id = rows.add(version)
        members = {
            "ETag": f'"{version.etag}"',
            "VersionId": version_id if bucket.versioning else None,
            member(version.checksum_algorithm): version.checksum,
            "ChecksumType": version.checksum_type,
        }
        return members, {name: version.headers[name] for name in _ECHOED if name in version.headers}

    def copy(self, call: Call) -> Reply:
        """CopyObject: the copy shares the bytes on the disk, and nothing else."""
        asked = call.parameters
        described = describe(call)
        with self.source(call) as (source, source_bucket):
            check_copy(asked, source)
            directive, tagging = asked.get("MetadataDirective", "COPY"), asked.get("TaggingDirective", "COPY")
            if {directive, tagging} - {"COPY", "REPLACE"}:
                raise S3Error("InvalidArgument", "Unknown metadata directive.", ArgumentName="x-amz-metadata-directive")
            changes = directive == "REPLACE" or any(name in described["headers"] for name in _PLACEMENT)
            same = (source.bucket, source.key) == (call.bucket.name, call.key) and source.is_latest
            if same and not changes and "ChecksumAlgorithm" not in asked:
                raise S3Error(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing "
                    "the object's metadata, storage class, website redirect location or encryption attributes.",
                )
            if directive == "COPY":
                kept = {name: value for name, value in source.headers.items() if name not in _PLACEMENT}
                placed = {name: value for name, value in described["headers"].items() if name in _PLACEMENT}
                described |= {"headers": kept | placed, "user_metadata": source.user_metadata}
            if tagging == "COPY":
                described["tags"] = source.tags
            checksum = self._checksum_of_copy(source, asked.get("ChecksumAlgorithm"))
            with self._linked(source.pieces) as pieces:
                modified = now_ms()
                version = Version(
                    bucket=call.bucket.name,
                    key=call.key,
                    size=source.size,
                    etag=source.etag,
                    modified_ms=modified,
                    pieces=pieces,
                    parts=source.parts,
                    **checksum,
                    **described,
                )
                stored, headers = self.store(version, asked, call.bucket)
        result = {key: value for key, value in stored.items() if key != "VersionId"}
        members = {
            "CopyObjectResult": result | {"LastModified": moment(modified)},
            "VersionId": stored["VersionId"],
            "CopySourceVersionId": source.version_id if source_bucket.versioning else None,
        }
        return Reply(members, headers)

    def _checksum_of_copy(self, source: Version, wanted: str | None) -> dict[str, Any]:
        algorithm = wanted or source.checksum_algorithm or DEFAULT
        if algorithm == source.checksum_algorithm and source.checksum:
            kind, value = source.checksum_type, source.checksum
        else:
            running = new_hash(algorithm)
            for data in self.read(source, 0, source.size):
                running.update(data)
            kind, value = FULL_OBJECT, encode_checksum(running.digest())
        return {"checksum_algorithm": algorithm, "checksum": value, "checksum_type": kind}

    @contextlib.contextmanager
    def _linked(self, pieces: Pieces) -> Iterator[Pieces]:
        made: Pieces = []
        try:
            for name, size in pieces:
                made.append((self._files.link(name), size))
            yield made
        except BaseException:
            self._files.remove([name for name, _ in made])
            raise

    # --- reading

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
        offset, size, more = _extent(asked, version)
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
            "StorageClass": version.headers.get("x-amz-storage-class", _STANDARD),
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

    # --- deleting

    def delete(self, call: Call) -> Reply:
        """DeleteObject: a version for good, or a marker where the bucket keeps versions."""
        with self._index.writing() as rows:
            version_id, is_marker = _delete(rows, call.bucket.name, call.key, call.parameters)
        return Reply({"VersionId": version_id, "DeleteMarker": is_marker or None})

    def delete_many(self, call: Call) -> Reply:
        """DeleteObjects: each on its own; what fails does not keep the others from it."""
        found = payload_member(call.model)
        assert found is not None
        asked = parse_document(found[1], call.read_body())
        if not 1 <= len(asked["Objects"]) <= DELETE_MAX:
            raise S3Error("MalformedXML")
        deleted: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        with self._index.writing() as rows:
            for one in asked["Objects"]:
                named = {name: one[name] for name in ("Key", "VersionId") if name in one}
                try:
                    deleted.append(named | _delete_one(rows, call, one))
                except S3Error as error:
                    errors.append(named | {"Code": error.code, "Message": error.message})
        return Reply({"Deleted": [] if asked.get("Quiet") else deleted, "Errors": errors})

    # --- tags and access control lists

    def get_tags(self, call: Call) -> Reply:
        """GetObjectTagging."""
        with self._index.reading() as rows:
            version = find(rows, call)
        return Reply({"TagSet": tags.show(version.tags), "VersionId": _shown_id(call, version)})

    def put_tags(self, call: Call) -> Reply:
        """PutObjectTagging."""
        found = payload_member(call.model)
        assert found is not None
        return self._change(call, tags=tags.from_members(parse_document(found[1], call.read_body())))

    def delete_tags(self, call: Call) -> Reply:
        """DeleteObjectTagging: the tags alone."""
        return self._change(call, tags=[])

    def get_acl(self, call: Call) -> Reply:
        """GetObjectAcl."""
        with self._index.reading() as rows:
            version = find(rows, call)
        return Reply(acls.show(version.acl, call.bucket.account_id))

    def put_acl(self, call: Call) -> Reply:
        """PutObjectAcl."""
        self._change(call, acl=acls.put(call))
        return Reply()

    def _change(self, call: Call, **values: Any) -> Reply:
        with self._index.writing() as rows:
            version = find(rows, call)
            rows.change(version, **values)
        return Reply({"VersionId": _shown_id(call, version)})


def find(rows: Rows, call: Call) -> Version:
    """Return the version that a request means.

    Raises:
        S3Error: there is none, or it is a delete marker.
    """
    return find_version(rows, call.bucket.name, call.key, call.parameters.get("VersionId"))


def find_version(rows: Rows, bucket: str, key: bytes, version_id: str | None) -> Version:
    """Return a version of a key, the latest where none is named.

    Raises:
        S3Error: there is none, or it is a delete marker.
    """
    shown = key.decode()
    if version_id is None:
        latest = rows.latest(bucket, key)
        if latest is None:
            raise S3Error("NoSuchKey", Key=shown)
        if latest.is_marker:
            headers = {"x-amz-delete-marker": "true", "x-amz-version-id": latest.version_id}
            raise S3Error("NoSuchKey", None, headers, Key=shown)
        return latest
    version = rows.version(bucket, key, version_id)
    if version is None:
        raise S3Error("NoSuchVersion", Key=shown, VersionId=version_id[:128])
    if version.is_marker:
        raise S3Error("MethodNotAllowed", None, {"x-amz-delete-marker": "true", "Allow": "DELETE"}, Key=shown)
    return version


def describe(call: Call) -> dict[str, Any]:
    """Return what a request says about a new object beside its content.

    Raises:
        S3Error: something of it is not allowed.
    """
    headers = {"Content-Type": "binary/octet-stream"}
    for name, wire in _CONTENT_HEADERS.items():
        if value := call.header(name):
            headers[wire] = value
    if "Content-Encoding" in headers:
        kept = [one.strip() for one in headers.pop("Content-Encoding").split(",") if one.strip() != "aws-chunked"]
        if any(kept):
            headers["Content-Encoding"] = ",".join(kept)
    for name in _PLACEMENT:
        if value := call.header(name):
            headers[name] = value
    stored = headers.get("x-amz-storage-class", _STANDARD)
    if stored not in _storage_classes(call):
        raise S3Error("InvalidStorageClass")
    if stored == _STANDARD:
        headers.pop("x-amz-storage-class", None)
    user_metadata = dict(call.parameters.get("Metadata", {}))
    check_headers([*headers.values(), *user_metadata, *user_metadata.values()])
    size = sum(len(name) + len(value) for name, value in user_metadata.items())
    if size > METADATA_BYTES_MAX:
        raise S3Error("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(METADATA_BYTES_MAX))
    return {
        "headers": headers,
        "user_metadata": user_metadata,
        "tags": tags.from_header(call.parameters.get("Tagging")),
        "acl": acls.chosen(call) or acls.PRIVATE,
    }


def check_headers(values: Iterable[str]) -> None:
    """Refuse what no header of an answer can hold.

    Raises:
        S3Error: InvalidArgument.
    """
    for value in values:
        if _UNFIT.search(value):
            raise S3Error("InvalidArgument", "Header value cannot be represented using ISO-8859-1.")


def _storage_classes(call: Call) -> Sequence[str]:
    shape = call.model.input_shape
    found: Sequence[str] = shape.members["StorageClass"].enum if shape is not None else ()
    return found


def _extent(asked: Mapping[str, Any], version: Version) -> tuple[int, int, dict[str, str]]:
    """Return offset and size of what is asked for, and the headers that say so; none for the whole."""
    number, stated = asked.get("PartNumber"), asked.get("Range")
    if number is not None:
        if stated is not None:
            raise S3Error("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
        return _part_extent(number, version)
    found = _RANGE.fullmatch(stated.strip()) if stated is not None else None
    if found is None or found[1] == found[2] == "":
        return 0, version.size, {}  # no range, several, or another unit: all of it, as S3 does
    if found[1]:
        first, last = int(found[1]), min(int(found[2]) if found[2] else version.size, version.size - 1)
        if found[2] and int(found[2]) < first:
            return 0, version.size, {}
    else:
        first, last = max(0, version.size - int(found[2])), version.size - 1
    if first >= version.size or first > last:
        headers = {"Content-Range": f"bytes */{version.size}"}
        raise S3Error("InvalidRange", None, headers, RangeRequested=str(stated), ActualObjectSize=str(version.size))
    return first, last - first + 1, {"Content-Range": f"bytes {first}-{last}/{version.size}"}


def _part_extent(number: int, version: Version) -> tuple[int, int, dict[str, str]]:
    sizes = [version.size] if version.parts is None else [size for _, size, _ in version.parts]
    if not 1 <= number <= len(sizes):
        raise S3Error("InvalidPartNumber", PartNumberRequested=str(number), ActualPartCount=str(len(sizes)))
    offset, size = sum(sizes[: number - 1]), sizes[number - 1]
    if version.size == 0:
        return 0, 0, {}
    headers = {"Content-Range": f"bytes {offset}-{offset + size - 1}/{version.size}"}
    if version.parts is not None:
        headers["x-amz-mp-parts-count"] = str(len(sizes))
    return offset, size, headers


def _read_source(text: str) -> tuple[str, bytes, str | None]:
    path, _, version = text.partition("?versionId=")
    bucket, slash, key = unquote_to_bytes(path).removeprefix(b"/").partition(b"/")
    if path.startswith("arn:"):
        raise S3Error("NotImplemented", "Access points are not implemented.", Header="x-amz-copy-source")
    if not slash or not bucket or not key:
        raise S3Error("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
                      ArgumentName="x-amz-copy-source")  # fmt: skip
    return bucket.decode("utf-8", "replace"), read_key(key), version or None


def _delete_one(rows: Rows, call: Call, one: Mapping[str, Any]) -> dict[str, Any]:
    key = read_key(one["Key"].encode())
    action = "s3:DeleteObject" if "VersionId" not in one else "s3:DeleteObjectVersion"
    if not call.may(action, object_arn(call.bucket.name, key)):
        raise S3Error("AccessDenied")
    if "LastModifiedTime" in one or "Size" in one:
        raise S3Error("NotImplemented")
    asked = {name: one[wire] for name, wire in (("VersionId", "VersionId"), ("IfMatch", "ETag")) if wire in one}
    version_id, is_marker = _delete(rows, call.bucket.name, key, asked)
    if not is_marker:
        return {}
    return {"DeleteMarker": True, "DeleteMarkerVersionId": version_id}


def _delete(rows: Rows, bucket_name: str, key: bytes, asked: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Delete; return the version id to tell, and whether it is, or was, a delete marker."""
    bucket = rows.bucket(bucket_name)
    if bucket is None:
        raise S3Error("NoSuchBucket", BucketName=bucket_name)
    version_id = asked.get("VersionId")
    target = rows.latest(bucket_name, key) if version_id is None else rows.version(bucket_name, key, version_id)
    check_write(asked, target)
    if version_id is not None:
        if target is not None:
            rows.remove(target)
        return version_id, target is not None and target.is_marker
    if not bucket.versioning:
        if target is not None:
            rows.remove(target)
        return None, False
    return rows.add(Version(bucket=bucket_name, key=key, is_marker=True, modified_ms=now_ms())), True


def _shown_id(call: Call, version: Version) -> str | None:
    return version.version_id if call.bucket.versioning else None


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
