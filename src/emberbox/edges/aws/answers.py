"""Results and refusals as HTTP answers in the protocol that the client speaks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emberbox.edges.aws.cbor import serialise_cbor_wire_error
from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import WireError
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.routing import Match
from emberbox.edges.aws.serialise import serialise_error, serialise_result, serialise_wire_error
from emberbox.edges.aws.xml import serialise_xml_error, serialise_xml_result, serialise_xml_wire_error
from emberbox.model.errors import ServiceError


def answer_result(match: Match, dialect: Dialect, result: Mapping[str, Any], request_id: str) -> Answer:
    """Turn what a handler returned into the operation's answer.

    Raises:
        TypeError: it has a member or a type that the model does not know.
    """
    if dialect.is_json:
        return serialise_result(match, result, request_id)
    return serialise_xml_result(match, dialect, result, request_id)


def answer_error(match: Match, dialect: Dialect, error: ServiceError, request_id: str) -> Answer:
    """Turn an error of the service into its modelled answer.

    Raises:
        LookupError: no model has the error's code, and the protocol has no other name for it.
        TypeError: the error's members do not fit its shape.
    """
    if dialect.is_json:
        return serialise_error(match, error, request_id)
    return serialise_xml_error(match, dialect, error, request_id)


def answer_refusal(error: ServiceError | WireError, match: Match | None, dialect: Dialect, request_id: str) -> Answer:
    """Turn either into an answer; an error of the service has a model where the operation is known.

    Raises:
        LookupError, TypeError: see `answer_error`.
    """
    if isinstance(error, WireError):
        return answer_wire_error(error, dialect, request_id)
    if match is not None:
        return answer_error(match, dialect, error, request_id)
    return answer_wire_error(WireError(error.message, error.code, 400), dialect, request_id)


def answer_wire_error(error: WireError, dialect: Dialect, request_id: str) -> Answer:
    """Turn a refusal of the wire layer into an answer."""
    if dialect.is_json:
        return serialise_wire_error(error, dialect is Dialect.JSON, request_id)
    if dialect is Dialect.CBOR:
        return serialise_cbor_wire_error(error, request_id)
    return serialise_xml_wire_error(error, dialect, request_id)
