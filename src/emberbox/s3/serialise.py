"""Results and errors as HTTP answers, built from S3's model: rest-xml, the other way round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.model import OperationModel, Shape

from emberbox.s3.errors import S3Error
from emberbox.s3.http import Answer

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
XML: Final = "application/xml"
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# The model does not say what an answer's root is called; the examples of the API Reference do.
_ROOTS: Final[Mapping[str, str]] = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListParts": "ListPartsResult",
}


def serialise(model: OperationModel, members: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an operation's answer; members that are None are left out.

    Raises:
        TypeError: the model has no such member.
    """
    shape = model.output_shape
    headers: dict[str, str] = {}
    if shape is None:
        return headers, b""
    body: dict[str, Any] = {}
    for name, value in members.items():
        if name not in shape.members:
            raise TypeError(f"{model.name} has no {name}")
        if value is None:
            continue
        member = shape.members[name]
        wire = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "header":
                headers[wire] = header_text(member, value)
            case "headers":
                headers |= {wire + key: text for key, text in value.items()}
            case _:
                body[name] = value
    payload = shape.serialization.get("payload")
    if payload is not None:
        if payload not in body:
            return headers, b""
        root = shape.members[payload].serialization.get("name", payload)
        text = _element(shape.members[payload], root, body[payload])
    elif any("location" not in member.serialization for member in shape.members.values()):
        text = _element(shape, _ROOTS.get(model.name, model.name), body)
    else:
        return headers, b""
    headers["Content-Type"] = XML
    return headers, document(text)


def document(element: str) -> bytes:
    """Return a document of one element, in S3's namespace."""
    head, sign, rest = element.partition(">")
    if head.endswith("/"):
        head, sign = head[:-1], "/>"
    if "xmlns=" not in head:
        head += f' xmlns="{NAMESPACE}"'
    return (_DECLARATION + head + sign + rest).encode()


def serialise_error(error: S3Error, resource: str, request_id: str) -> Answer:
    """Return the answer that says no."""
    fields = {"Code": error.code, "Message": error.message, **error.details}
    fields |= {"Resource": resource, "RequestId": request_id, "HostId": request_id}
    inner = "".join(f"<{name}>{xml_text(value)}</{name}>" for name, value in fields.items())
    body = f"{_DECLARATION}<Error>{inner}</Error>".encode()
    return Answer(error.status, {"Content-Type": XML, **error.headers}, body)


def xml_text(text: str) -> str:
    """Return text as it stands in a document; control characters as references, as S3 sends them."""
    return _CONTROL.sub(lambda found: f"&#x{ord(found[0]):x};", escape(text, {'"': "&quot;"}))


def iso_time(moment: datetime) -> str:
    """Return a moment as documents have it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def http_date(moment: datetime) -> str:
    """Return a moment as headers have it."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def header_text(shape: Shape, value: Any) -> str:
    """Return a value as headers have it."""
    if shape.type_name == "timestamp":
        return http_date(value)
    return _scalar(value)


def _element(shape: Shape, name: str, value: Any) -> str:
    if isinstance(value, ElementTree.Element):  # a stored document
        return ElementTree.tostring(value, encoding="unicode")
    attributes = ""
    if shape.type_name == "structure":
        inner = ""
        for key, member in shape.members.items():
            if (item := value.get(key)) is None:
                continue
            wire = member.serialization.get("name", key)
            if member.serialization.get("xmlAttribute"):
                uri = shape.serialization["xmlNamespace"]["uri"]
                attributes += f' xmlns:{wire.partition(":")[0]}="{uri}" {wire}="{xml_text(item)}"'
            elif member.type_name == "list" and member.serialization.get("flattened"):
                wire = member.member.serialization.get("name", wire)
                inner += "".join(_element(member.member, wire, one) for one in item)
            else:
                inner += _element(member, wire, item)
        if unknown := value.keys() - shape.members.keys():
            raise TypeError(f"{shape.name} has no {', '.join(sorted(unknown))}")
    elif shape.type_name == "list":
        wire = shape.member.serialization.get("name", "member")
        inner = "".join(_element(shape.member, wire, one) for one in value)
    elif shape.type_name == "timestamp":
        inner = iso_time(value)
    else:
        inner = xml_text(_scalar(value))
    return f"<{name}{attributes}>{inner}</{name}>"


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
