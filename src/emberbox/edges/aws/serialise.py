"""Results and errors as HTTP answers, built from the service models.

lambda-microvms sends members that are not set as explicit nulls, lambda-core and logs leave them out (m80);
`_SENDS_NULLS` says which. A result that does not fit the model is a bug of ours and raises TypeError instead
of being sent.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final

from botocore.model import Shape

from emberbox.edges.aws.errors import WireError
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.routing import Match
from emberbox.model.errors import ServiceError
from emberbox.spec.models import MICROVMS, declared_code, error_shape, error_status, load_service

RETRY_AFTER_S: Final = 1
_SENDS_NULLS: Final = frozenset({MICROVMS})
_REST_TYPE: Final = "application/json"
_JSON_TYPE: Final = "application/x-amz-json-1.1"
_dump = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def serialise_result(match: Match, result: Mapping[str, Any], request_id: str) -> Answer:
    """Turn what a handler returned into the operation's answer.

    Args:
        match: the operation.
        result: the members of the output shape by their names in the model; timestamps are aware datetimes.
        request_id: the UUID of the request.

    Raises:
        TypeError: the result has a member or a type that the model does not know.
    """
    operation, shape = match.operation, match.operation.output_shape
    status = int(operation.http.get("responseCode", 200))
    body: dict[str, Any] = {}
    headers = {"x-amzn-RequestId": request_id}
    if shape is not None:
        body, located, status = _split(shape, result, match.service in _SENDS_NULLS, status)
        headers |= located
    elif result:
        raise TypeError(f"{match.name} has no output, but the handler returned {', '.join(result)}")
    if status == 204:
        return Answer(status, headers, b"")
    headers["content-type"] = _content_type(match.service)
    empty = shape is None and _is_json_rpc(match.service)  # json-1.1 answers nothing, not {}
    return Answer(status, headers, b"" if empty else _dump(body).encode())


def serialise_error(match: Match, error: ServiceError, request_id: str) -> Answer:
    """Turn an error of the service into its modelled answer.

    The code becomes the spelling that the operation declares. Throttling and internal errors tell the client
    to wait `RETRY_AFTER_S` seconds where their shape has a member for it.

    Raises:
        LookupError: no model has the error's code.
        TypeError: the error's members do not fit its shape.
    """
    service = match.service
    code = declared_code(service, match.name, error.code)
    status = error_status(service, code)
    shape = error_shape(service, code) or error_shape(MICROVMS, code)
    body, headers, _ = _split(shape, _error_members(shape, error), service in _SENDS_NULLS, status)
    if not any(name.lower() == "message" for name in body):  # some errors of logs model no text at all
        body["message"] = error.message
    return _refusal(_is_json_rpc(service), status, code, body, headers, request_id)


def _error_members(shape: Shape, error: ServiceError) -> dict[str, Any]:
    """Return the members of an error; those that this spelling of it lacks are left out.

    The text's key is spelled as the model has it: mostly `message`, `Message` in lambda-core's 404. That service's
    models have a `Type` too, which no recorded body has (m80, 2026-07-30): nothing sets it.
    """
    members = {name: value for name, value in error.members.items() if name in shape.members}
    for name, member in shape.members.items():
        if name.lower() == "message":
            members[name] = error.message
        elif name == "retryAfterSeconds":  # a string in lambda-core, an integer in lambda-microvms
            members.setdefault(name, str(RETRY_AFTER_S) if member.type_name == "string" else RETRY_AFTER_S)
    return members


def serialise_wire_error(error: WireError, is_json_rpc: bool, request_id: str) -> Answer:
    """Turn a refusal of the wire layer into an answer.

    Args:
        error: the refusal.
        is_json_rpc: whether the client speaks json-1.1 (it sent `X-Amz-Target`) instead of rest-json.
        request_id: the UUID of the request.
    """
    body = {error.message_key: error.message}
    return _refusal(is_json_rpc, error.status, error.error_code, body, {}, request_id)


def _refusal(
    is_json_rpc: bool, status: int, code: str, body: dict[str, Any], located: dict[str, str], request_id: str
) -> Answer:
    headers = {"x-amzn-RequestId": request_id, **located}
    if is_json_rpc:
        headers["content-type"] = _JSON_TYPE
        return Answer(status, headers, _dump({"__type": code, **body}).encode())
    headers |= {"content-type": _REST_TYPE, "x-amzn-ErrorType": code}
    return Answer(status, headers, _dump(body).encode())


def _content_type(service: str) -> str:
    if not _is_json_rpc(service):
        return _REST_TYPE
    return f"application/x-amz-json-{load_service(service).metadata.get('jsonVersion', '1.1')}"


def _is_json_rpc(service: str) -> bool:
    metadata = load_service(service).metadata
    return "json" in (metadata["protocol"], *metadata.get("protocols", ()))


def _split(
    shape: Shape, result: Mapping[str, Any], nulls: bool, status: int
) -> tuple[dict[str, Any], dict[str, str], int]:
    """Divide a result into body, headers and status by the members' locations."""
    located = {name: member for name, member in shape.members.items() if "location" in member.serialization}
    if not located:
        return _structure(shape, result, nulls), {}, status
    body = _structure(shape, result, nulls, frozenset(located))
    headers: dict[str, str] = {}
    for name, member in located.items():
        value = result.get(name)
        if value is None:
            continue
        wire_name = member.serialization.get("name", name)
        match member.serialization["location"]:
            case "statusCode":
                status = int(value)
            case "headers":
                headers |= {f"{wire_name}{key}": str(item) for key, item in value.items()}
            case "header":
                headers[wire_name] = _header_text(member, value)
    return body, headers, status


def _header_text(shape: Shape, value: Any) -> str:
    if shape.type_name == "timestamp" and "timestampFormat" not in shape.serialization:
        return format_datetime(_aware(value).astimezone(UTC), usegmt=True)
    encoded = _value(shape, value, nulls=False)
    return encoded if isinstance(encoded, str) else _dump(encoded)


def _structure(
    shape: Shape, value: Mapping[str, Any], nulls: bool, left_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
    if unknown := value.keys() - shape.members.keys():
        raise TypeError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
    sends_nulls = nulls and not shape.metadata.get("union")  # a union has its one member and nothing else
    encoded = {}
    for name, member in shape.members.items():
        item = value.get(name)
        if name not in left_out and (item is not None or sends_nulls):
            encoded[member.serialization.get("name", name)] = _value(member, item, nulls)
    return encoded


def _value(shape: Shape, value: Any, nulls: bool) -> Any:
    """Encode one value for JSON; None stays None."""
    if value is None:
        return None
    match shape.type_name:
        case "structure":
            return _structure(shape, value, nulls)
        case "list":
            return [_value(shape.member, item, nulls) for item in _checked(shape, value, list, tuple)]
        case "map":
            items = _checked(shape, value, Mapping).items()
            return {_value(shape.key, key, nulls): _value(shape.value, item, nulls) for key, item in items}
    return _ENCODERS[shape.type_name](shape, value)


def _checked(shape: Shape, value: Any, *types: type) -> Any:
    """Return the value when it has one of the types; a bool is not an int here."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise TypeError(f"{shape.name} must be {types[0].__name__}, not {type(value).__name__}")
    return value


def _string(shape: Shape, value: Any) -> str:
    return str.__str__(_checked(shape, value, str))  # the value of any string enum, not its name


def _boolean(shape: Shape, value: Any) -> bool:
    return bool(_checked(shape, value, bool))


def _integer(shape: Shape, value: Any) -> int:
    return int(_checked(shape, value, int))


def _float(shape: Shape, value: Any) -> float | str:
    number = float(_checked(shape, value, float, int))
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def _blob(shape: Shape, value: Any) -> str:
    return base64.b64encode(_checked(shape, value, bytes)).decode()


def encode_scalar(shape: Shape, value: Any, timestamp_format: str | None = None) -> float | str | bool:
    """Encode a value that is no container.

    Args:
        shape: its shape.
        value: what a handler made.
        timestamp_format: of moments, where the model has none; None for epoch seconds.

    Raises:
        TypeError: it does not have the shape's type.
    """
    if shape.type_name == "timestamp":
        return _timestamp(shape, value, timestamp_format)
    encoded: float | str | bool = _ENCODERS[shape.type_name](shape, value)
    return encoded


def _timestamp(shape: Shape, value: Any, default_format: str | None = None) -> float | str:
    """Encode a moment: epoch seconds with milliseconds, unless the model wants ISO 8601 or an HTTP date."""
    moment = _aware(_checked(shape, value, datetime)).astimezone(UTC)
    match shape.serialization.get("timestampFormat", default_format):
        case "iso8601":
            return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "rfc822":
            return format_datetime(moment, usegmt=True)
    whole_ms = moment.microsecond // 1000 * 1000  # cut off and not rounded: nothing ends later than it is said to
    return moment.replace(microsecond=whole_ms).timestamp()


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise TypeError("a timestamp without a time zone cannot be sent")
    return moment


_ENCODERS: Final[Mapping[str, Callable[[Shape, Any], Any]]] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "blob": _blob,
    "timestamp": _timestamp,
}
