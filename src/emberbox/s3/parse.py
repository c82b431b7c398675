"""A request's headers, query and XML body, read as the operation's parameters: rest-xml, the other way round."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from xml.etree import ElementTree

from botocore.model import OperationModel, Shape

from emberbox.s3.errors import S3Error

DOCUMENT_BYTES_MAX: Final = 4 << 20
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)


def parse_located(model: OperationModel, query: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters that stand in the query and in headers.

    Raises:
        S3Error: InvalidArgument, a value is not of its type.
    """
    shape = model.input_shape
    parameters: dict[str, Any] = {}
    for name, member in (shape.members if shape is not None else {}).items():
        wire = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "querystring" if wire in query:
                parameters[name] = _text(member, query[wire], wire)
            case "header" if wire.lower() in headers:
                parameters[name] = _text(member, headers[wire.lower()], wire)
            case "headers":
                prefix = wire.lower()
                found = {key[len(prefix) :]: value for key, value in headers.items() if key.startswith(prefix)}
                if found:
                    parameters[name] = found
    return parameters


def payload_member(model: OperationModel) -> tuple[str, Shape] | None:
    """Return the member that the body is, None where there is none."""
    shape = model.input_shape
    name = shape.serialization.get("payload") if shape is not None else None
    return (name, shape.members[name]) if name and shape is not None else None


def parse_document(shape: Shape, body: bytes) -> Any:
    """Read a body as a structure of the model.

    Raises:
        S3Error: MalformedXML.
    """
    return _element(shape, read_xml(body))


def read_xml(body: bytes) -> ElementTree.Element:
    """Return the root of a document.

    Raises:
        S3Error: MalformedXML; also for a document type, which no request of S3 has.
    """
    try:
        if b"\0" in body:  # UTF-16 or worse
            raise S3Error("MalformedXML")
        if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
            raise S3Error("MalformedXML")
        return ElementTree.fromstring(body)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError):
        raise S3Error("MalformedXML") from None


def local_name(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _element(shape: Shape, element: ElementTree.Element) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape, element)
        case "list":
            wire = shape.member.serialization.get("name", "member")
            return [_element(shape.member, child) for child in element if local_name(child) == wire]
    return _text(shape, element.text or "", local_name(element), "MalformedXML")


def _structure(shape: Shape, element: ElementTree.Element) -> dict[str, Any]:
    children: dict[str, list[ElementTree.Element]] = {}
    for child in element:
        children.setdefault(local_name(child), []).append(child)
    parsed: dict[str, Any] = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            value = next((v for k, v in element.attrib.items() if k.rpartition("}")[2] == wire.partition(":")[2]), None)
            if value is not None:
                parsed[name] = value
        elif member.type_name == "list" and member.serialization.get("flattened"):
            wire = member.member.serialization.get("name", wire)
            if wire in children:
                parsed[name] = [_element(member.member, child) for child in children[wire]]
        elif wire in children:
            if len(children[wire]) > 1:
                raise S3Error("MalformedXML")
            parsed[name] = _element(member, children[wire][0])
    missing = [name for name in shape.metadata.get("required", ()) if name not in parsed]
    if missing:
        raise S3Error("MalformedXML")
    return parsed


def _text(shape: Shape, text: str, name: str, code: str = "InvalidArgument") -> Any:
    """Read a scalar, or a list of scalars with commas between them."""
    try:
        match shape.type_name:
            case "integer" | "long":
                if not _INTEGER.fullmatch(text.strip()):
                    raise ValueError(text)
                return int(text)
            case "boolean":
                if text.strip().lower() not in ("true", "false"):
                    raise ValueError(text)
                return text.strip().lower() == "true"
            case "timestamp":
                return read_time(text)
            case "list":
                return [_text(shape.member, one.strip(), name, code) for one in text.split(",") if one.strip()]
            case "string" if shape.metadata.get("enum") and code == "MalformedXML":
                if text.strip() not in shape.metadata["enum"]:
                    raise ValueError(text)
                return text.strip()
    except (ValueError, OverflowError):
        raise S3Error(code, ArgumentName=name, ArgumentValue=text[:256]) from None
    return text


def read_time(text: str) -> datetime:
    """Read an HTTP date or ISO 8601.

    Raises:
        ValueError: it is neither.
    """
    moment = parsedate_to_datetime(text) if "," in text else datetime.fromisoformat(text.strip())
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
