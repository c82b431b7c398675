"""Answers of the protocols query and EC2, and refusals in any that speaks XML, built from the service models.

A result that does not fit the model is a bug of ours and raises TypeError instead of being sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from botocore.model import Shape

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import WireError
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.serialise import encode_scalar
from emberbox.model.errors import ServiceError
from emberbox.spec.models import declared_code, load_service

_TYPE: Final = "text/xml;charset=utf-8"
_NOT_XML: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What no XML 1.0 document may hold, not even as a reference."""

_COMMON: Final[Mapping[str, tuple[str, int]]] = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ConflictException": ("DeleteConflict", 409),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "IncompleteSignatureException": ("IncompleteSignature", 400),
    "InternalServerException": ("InternalFailure", 500),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "NotImplementedException": ("InvalidAction", 400),
    "ResourceNotFoundException": ("NoSuchEntity", 404),
    "SerializationException": ("MalformedInput", 400),
    "ServiceQuotaExceededException": ("LimitExceeded", 409),
    "ServiceUnavailableException": ("ServiceUnavailable", 503),
    "ThrottlingException": ("Throttling", 400),
    "UnknownOperationException": ("InvalidAction", 400),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "ValidationException": ("ValidationError", 400),
}
"""Codes and statuses of IAM's and STS's "Common errors", by the codes of services that speak JSON."""

_EC2: Final[Mapping[str, tuple[str, int]]] = {
    "AccessDeniedException": ("UnauthorizedOperation", 403),
    "ExpiredTokenException": ("RequestExpired", 400),
    "IncompleteSignatureException": ("AuthFailure", 401),
    "InternalServerException": ("InternalError", 500),
    "InvalidSignatureException": ("AuthFailure", 401),
    "MissingAuthenticationTokenException": ("AuthFailure", 401),
    "SerializationException": ("InvalidParameterValue", 400),
    "ServiceUnavailableException": ("Unavailable", 503),
    "ThrottlingException": ("RequestLimitExceeded", 503),
    "UnrecognizedClientException": ("AuthFailure", 401),
    "ValidationException": ("InvalidParameterValue", 400),
}
"""The same where EC2 has its own ("Error codes for the Amazon EC2 API")."""

_REST: Final[Mapping[str, tuple[str, int]]] = {"UnknownOperationException": ("NotImplemented", 501)}
"""The same where S3 has its own."""


def serialise_xml_result(match: Match, dialect: Dialect, result: Mapping[str, Any], request_id: str) -> Answer:
    """Turn what a handler returned into the operation's answer.

    Args:
        match: the operation.
        dialect: QUERY or EC2.
        result: the members of the output shape by their names in the model; None is left out.
        request_id: the UUID of the request.

    Raises:
        TypeError: the result has a member or a type that the model does not know.
    """
    shape = match.operation.output_shape
    if shape is None and result:
        raise TypeError(f"{match.name} has no output, but the handler returned {', '.join(result)}")
    inner = "" if shape is None else _members(shape, result)
    if dialect is Dialect.EC2:
        inner = f"<requestId>{request_id}</requestId>{inner}"
    else:
        wrapper = "" if shape is None else shape.serialization.get("resultWrapper", "")
        inner = f"<{wrapper}>{inner}</{wrapper}>" if wrapper else inner
        inner += f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    root = f"{match.name}Response"
    namespace = load_service(match.service).metadata.get("xmlNamespace", "")
    body = f'<{root} xmlns="{namespace}">{inner}</{root}>'
    return Answer(200, {"x-amzn-RequestId": request_id, "content-type": _TYPE}, body.encode())


def serialise_xml_error(match: Match, dialect: Dialect, error: ServiceError, request_id: str) -> Answer:
    """Turn an error of the service into its modelled answer; one that is not modelled has its common name.

    What the service models and the operation does not declare is sent as it is: the model is not always complete.
    """
    name = declared_code(match.service, match.name, error.code)
    for shape in load_service(match.service).error_shapes:
        if shape.name == name:
            status = int(shape.metadata.get("error", {}).get("httpStatusCode", 400))
            return _refusal(dialect, status, shape.error_code, error.message, request_id)
    code, status = _spelled(dialect, error.code, 400)
    return _refusal(dialect, status, code, error.message, request_id)


def serialise_xml_wire_error(error: WireError, dialect: Dialect, request_id: str) -> Answer:
    """Turn a refusal of the wire layer into an answer."""
    code, status = _spelled(dialect, error.error_code, error.status)
    return _refusal(dialect, status, code, error.message or "The request is not understood.", request_id)


def read_xml_code(answer: Answer) -> str:
    """Return the error code of a refusal that was made here."""
    found = re.search(rb"<Code>([^<]*)</Code>", answer.body)
    return found[1].decode() if found else ""


def _spelled(dialect: Dialect, code: str, status: int) -> tuple[str, int]:
    own: Mapping[str, tuple[str, int]] = {Dialect.EC2: _EC2, Dialect.REST_XML: _REST}.get(dialect, {})
    return own.get(code) or _COMMON.get(code) or (code, status)


def _refusal(dialect: Dialect, status: int, code: str, message: str, request_id: str) -> Answer:
    error = f"<Code>{_text(code)}</Code><Message>{_text(message)}</Message>"
    match dialect:
        case Dialect.EC2:
            body = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        case Dialect.REST_XML:
            body = f"<Error>{error}<RequestId>{request_id}</RequestId></Error>"
        case _:
            fault = "Sender" if status < 500 else "Receiver"
            inner = f"<Error><Type>{fault}</Type>{error}</Error><RequestId>{request_id}</RequestId>"
            body = f"<ErrorResponse>{inner}</ErrorResponse>"
    return Answer(status, {"x-amzn-RequestId": request_id, "content-type": _TYPE}, body.encode())


def _members(shape: Shape, value: Any) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f"{shape.name} must be a mapping, not {type(value).__name__}")
    if unknown := value.keys() - shape.members.keys():
        raise TypeError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
    return "".join(
        _element(member, member.serialization.get("name", name), value[name])
        for name, member in shape.members.items()
        if value.get(name) is not None
    )


def _element(shape: Shape, name: str, value: Any) -> str:
    """Encode one value with its name around it; a flattened list is many elements of the name."""
    match shape.type_name:
        case "structure":
            inner = _members(shape, value)
        case "list":
            if not isinstance(value, list | tuple):
                raise TypeError(f"{shape.name} must be a list, not {type(value).__name__}")
            if shape.serialization.get("flattened"):
                own = shape.member.serialization.get("name", name)
                return "".join(_element(shape.member, own, item) for item in value)
            item_name = shape.member.serialization.get("name", "member")
            inner = "".join(_element(shape.member, item_name, item) for item in value)
        case "map":
            pairs = [
                _element(shape.key, shape.key.serialization.get("name", "key"), key)
                + _element(shape.value, shape.value.serialization.get("name", "value"), item)
                for key, item in value.items()
            ]
            inner = "".join(f"<entry>{pair}</entry>" for pair in pairs)
        case _:
            inner = _text(_scalar(shape, value))
    return f"<{name}>{inner}</{name}>"


def _scalar(shape: Shape, value: Any) -> str:
    encoded = encode_scalar(shape, value, timestamp_format="iso8601")
    return str(encoded).lower() if isinstance(encoded, bool) else str(encoded)


def _text(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#xD;"})
