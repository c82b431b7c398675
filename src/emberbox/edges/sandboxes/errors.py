"""How requests fail, in whatever form an API tells it: with an HTTP status, or a code of what is done in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from emberbox.model.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CapacityError,
    ConflictError,
    EmberboxError,
    HostError,
    NotFoundError,
    QuotaExceededError,
    ServiceError,
    ThrottlingError,
    ValidationError,
)

_STATUSES: Final[Mapping[type[EmberboxError], HTTPStatus]] = {
    ValidationError: HTTPStatus.BAD_REQUEST,
    AlreadyExistsError: HTTPStatus.BAD_REQUEST,
    AccessDeniedError: HTTPStatus.FORBIDDEN,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    QuotaExceededError: HTTPStatus.TOO_MANY_REQUESTS,
    ThrottlingError: HTTPStatus.TOO_MANY_REQUESTS,
    CapacityError: HTTPStatus.SERVICE_UNAVAILABLE,
    HostError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class ApiError(EmberboxError):
    """A request that is answered with an error.

    Args:
        status: of the answer.
        message: for the client; it says what to do.
        code: a word for it, where the API has words.
    """

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = int(status)
        self.message = message
        self.code = code


def as_api_error(error: EmberboxError) -> ApiError:
    """Return what a client is told of an error."""
    if isinstance(error, ApiError):
        return error
    status = next((found for kind, found in _STATUSES.items() if isinstance(error, kind)), 500)
    return ApiError(status, error.message if isinstance(error, ServiceError) else str(error))


class Code(StrEnum):
    """How a call failed."""

    CANCELED = "canceled"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    UNAUTHENTICATED = "unauthenticated"


CODE_STATUSES: Final[Mapping[Code, int]] = {
    Code.CANCELED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""The statuses of answers that tell them."""


class CallError(EmberboxError):
    """A call that failed.

    Args:
        code: how.
        message: for the client.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
