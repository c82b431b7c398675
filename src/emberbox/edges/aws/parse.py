"""A request's path labels, query string, headers and body, read as the operation's parameters.

Types are strict: a JSON true is no integer and a JSON string is no number. Members that the model does not
know are ignored and a JSON null counts as absent, as AWS does both. The texts are those of AWS's own
deserialiser (`Expected null` for a boolean in place of a structure was recorded by m80).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, NoReturn

from botocore.model import Shape

from emberbox.edges.aws.errors import SerializationError
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.routing import Match

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
_BITS = {"integer": 32, "long": 64}
_ARTICLES = {"integer": "an Integer", "long": "a Long", "boolean": "a Boolean", "timestamp": "a Timestamp"}
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def parse_request(match: Match, request: HttpRequest) -> dict[str, Any]:
    """Read the parameters of an operation.

    Args:
        match: the operation and its path labels.
        request: the request.

    Returns:
        The parameters by their names in the model. Absent ones are left out; nulls inside lists and maps
        stay, for the validation to report.

    Raises:
        SerializationError: the request does not have the types of the model.
    """
    shape = match.operation.input_shape
    if shape is None:
        return {}
    body = _body_members(shape)
    parameters = _parse_structure(body, _load_body(request.body)) if body else {}
    query = request.query_pairs()
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "uri":
                parameters[name] = _parse_text(member, match.labels[wire_name])
            case "querystring":
                if values := [value for key, value in query if key == wire_name]:
                    parameters[name] = _parse_texts(member, values)
            case "header":
                if (value := request.header(wire_name.lower())) is not None:
                    parameters[name] = _parse_text(member, value)
    return parameters


def parse_members(shape: Shape | None, document: Mapping[str, Any]) -> dict[str, Any]:
    """Read an operation's input that has all its members in one JSON object, by their names in the model.

    Args:
        shape: of the input.
        document: the object.

    Returns:
        the parameters, as of `parse_request`; members that the model does not know are left out.

    Raises:
        SerializationError: a member does not have its type.
    """
    return {} if shape is None else _parse_structure(shape.members, document)


@cache
def _body_members(shape: Shape) -> dict[str, Shape]:
    return {name: member for name, member in shape.members.items() if "location" not in member.serialization}


def _load_body(body: bytes) -> Mapping[str, Any]:
    """Decode a JSON object; an absent body is an empty one."""
    if not body.strip():
        return {}
    try:
        document = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SerializationError("Could not parse request body into json") from error
    if not isinstance(document, dict):
        raise SerializationError("Could not parse request body into json: the body is not an object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_texts(shape: Shape, values: list[str]) -> Any:
    """Parse the values of one query parameter: all of them for a list, else the first."""
    if shape.type_name == "list":
        return [_parse_text(shape.member, value) for value in values]
    return _parse_text(shape, values[0])


def parse_form_text(shape: Shape, text: str) -> Any:
    """Parse a scalar of a form.

    Raises:
        SerializationError: it does not have the shape's type.
    """
    match shape.type_name:
        case "float" | "double":
            return float(text) if _NUMBER.fullmatch(text) else _parse_float(shape, text)
        case "blob":
            return _parse_blob(shape, text)
    return _parse_text(shape, text)


def _parse_text(shape: Shape, text: str) -> Any:
    """Parse a scalar that came as text, in the path, the query string or a header."""
    match shape.type_name:
        case "integer" | "long":
            if not _INTEGER.fullmatch(text):
                _refuse_scalar(text, shape)
            return _parse_integer(shape, int(text))
        case "boolean":
            if text not in {"true", "false"}:
                _refuse_scalar(text, shape)
            return text == "true"
        case "timestamp":
            return _parse_timestamp(shape, text)
    return text


def _parse_value(shape: Shape, value: Any) -> Any:
    """Parse a JSON value that is not null."""
    match shape.type_name:
        case "structure":
            if isinstance(value, list):
                raise SerializationError("Start of list found where not expected")
            if not isinstance(value, dict):
                raise SerializationError("Expected null")
            return _parse_structure(shape.members, value)
        case "list":
            if not isinstance(value, list):
                raise SerializationError("Expected list or null")
            return [_parse_nullable(shape.member, item) for item in value]
        case "map":
            if not isinstance(value, dict):
                raise SerializationError("Expected map or null")
            return {_parse_string(shape.key, key): _parse_nullable(shape.value, item) for key, item in value.items()}
    if isinstance(value, dict):
        raise SerializationError("Start of structure or map found where not expected")
    if isinstance(value, list):
        raise SerializationError("Start of list found where not expected")
    return _SCALARS[shape.type_name](shape, value)


def _parse_structure(members: Mapping[str, Shape], value: Mapping[str, Any]) -> dict[str, Any]:
    parsed = {}
    for name, member in members.items():
        item = value.get(member.serialization.get("name", name))
        if item is not None:
            parsed[name] = _parse_value(member, item)
    return parsed


def _parse_nullable(shape: Shape, value: Any) -> Any:
    return None if value is None else _parse_value(shape, value)


def _parse_string(shape: Shape, value: Any) -> str:
    if not isinstance(value, str):
        _refuse_scalar(value, shape)
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise SerializationError("Could not parse request body into json: unpaired surrogate in a string")
    return str(value)


def _parse_boolean(shape: Shape, value: Any) -> bool:
    if not isinstance(value, bool):
        _refuse_scalar(value, shape)
    return bool(value)


def _parse_integer(shape: Shape, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse_scalar(value, shape)
    limit = 1 << (_BITS[shape.type_name] - 1)
    if not -limit <= value < limit:
        _refuse_scalar(value, shape)
    return int(value)


def _parse_float(shape: Shape, value: Any) -> float:
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse_scalar(value, shape)
    try:
        return float(value)
    except OverflowError:
        _refuse_scalar(value, shape)


def _parse_blob(shape: Shape, value: Any) -> bytes:
    try:
        return base64.b64decode(_parse_string(shape, value), validate=True)
    except ValueError as error:
        raise SerializationError("Expected Base64") from error


def _parse_timestamp(shape: Shape, value: Any) -> datetime:
    """Read epoch seconds, ISO 8601 or an HTTP date, whichever came; the result is in UTC."""
    if isinstance(value, bool):
        _refuse_scalar(value, shape)
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        _refuse_scalar(value, shape)


_SCALARS: Mapping[str, Callable[[Shape, Any], Any]] = {
    "string": _parse_string,
    "boolean": _parse_boolean,
    "integer": _parse_integer,
    "long": _parse_integer,
    "float": _parse_float,
    "double": _parse_float,
    "blob": _parse_blob,
    "timestamp": _parse_timestamp,
}


def _refuse_scalar(value: Any, shape: Shape) -> NoReturn:
    """Say which JSON token stands where another type belongs; the value itself may be a secret."""
    match value:
        case bool():
            found = f"{str(value).upper()}_VALUE"
        case int() | float():
            found = "NUMBER_VALUE"
        case _:
            found = "STRING_VALUE"
    wanted = _ARTICLES.get(shape.type_name, f"a {shape.type_name.capitalize()}")
    raise SerializationError(f"{found} can not be converted to {wanted}")
