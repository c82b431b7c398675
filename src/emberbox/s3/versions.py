"""Which version of an object a request means."""

from __future__ import annotations

from emberbox.s3.call import Call
from emberbox.s3.errors import S3Error
from emberbox.s3.index import Rows, Version


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


def shown_id(call: Call, version: Version) -> str | None:
    """Return a version's id as answers tell it: only where the bucket keeps versions."""
    return version.version_id if call.bucket.versioning else None
