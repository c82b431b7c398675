"""Errors as E2B's API tells them: an HTTP status, and JSON with the same number and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.responses import JSONResponse, Response

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
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = int(status)
        self.message = message


def as_api_error(error: EmberboxError) -> ApiError:
    """Return what a client is told of an error."""
    if isinstance(error, ApiError):
        return error
    status = next((found for kind, found in _STATUSES.items() if isinstance(error, kind)), 500)
    return ApiError(status, error.message if isinstance(error, ServiceError) else str(error))


def error_response(error: ApiError) -> Response:
    """Return the answer."""
    return JSONResponse({"code": error.status, "message": error.message}, error.status)
