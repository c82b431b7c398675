"""What is kept of an object beside its content, as a request says it: headers, metadata, tags, access control list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from emberbox.s3 import acls, tags
from emberbox.s3.call import Call
from emberbox.s3.errors import S3Error

METADATA_BYTES_MAX: Final = 2048
STANDARD: Final = "STANDARD"
_UNFIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_CONTENT_HEADERS: Final = {
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "content-type": "Content-Type",
    "expires": "Expires",
}
PLACEMENT: Final = (  # what a copy does not take over from its source
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
)


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
    for name in PLACEMENT:
        if value := call.header(name):
            headers[name] = value
    stored = headers.get("x-amz-storage-class", STANDARD)
    if stored not in _storage_classes(call):
        raise S3Error("InvalidStorageClass")
    if stored == STANDARD:
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
