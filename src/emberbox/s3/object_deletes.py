"""Deleting objects: one, or many at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from emberbox.s3.addressing import read_key
from emberbox.s3.call import Call, Handler, Reply, now_ms
from emberbox.s3.conditions import check_write
from emberbox.s3.errors import S3Error
from emberbox.s3.index import Index, Rows, Version
from emberbox.s3.parse import parse_document, payload_member
from emberbox.s3.permissions import object_arn

DELETE_MAX: Final = 1000


class ObjectDeletes:
    """Answers the operations that delete.

    Args:
        index: the rows.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "DeleteObject": self.delete,
            "DeleteObjects": self.delete_many,
        }

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
