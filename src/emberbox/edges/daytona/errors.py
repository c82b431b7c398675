"""Errors as Daytona's API tells them: JSON with the HTTP status, a sentence, and a word for some."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from emberbox.edges.sandboxes.errors import CODE_STATUSES, ApiError, CallError, Code, as_api_error
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import EmberboxError, GuestError

API: Final = "DAYTONA_API"
DAEMON: Final = "DAYTONA_DAEMON"
"""Who tells an error; SDKs know words by these names."""

FILE_NOT_FOUND: Final = "FILE_NOT_FOUND"
FILE_ACCESS_DENIED: Final = "FILE_ACCESS_DENIED"
INVALID_FILE_PATH: Final = "INVALID_FILE_PATH"
FILE_READ_FAILED: Final = "FILE_READ_FAILED"
EXECUTION_TIMEOUT: Final = "PROCESS_EXECUTION_TIMEOUT"
PROCESS_NOT_FOUND: Final = "PROCESS_NOT_FOUND"
SESSION_ENDED: Final = "SESSION_ENDED"
COMMAND_COMPLETED: Final = "COMMAND_ALREADY_COMPLETED"

_CODE_STATUSES: Final = {
    **CODE_STATUSES,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Code.UNAUTHENTICATED: HTTPStatus.BAD_REQUEST,  # there is no such user in the guest
}


def translate(error: EmberboxError) -> ApiError:
    """Return what a client is told of an error."""
    match error:
        case CallError():
            return ApiError(_CODE_STATUSES[error.code], error.message)
        case Unreachable():
            return ApiError(HTTPStatus.CONFLICT, f"{error}; start the sandbox first (sandbox.start())")
        case GuestError():
            return ApiError(HTTPStatus.BAD_GATEWAY, f"{error}; if the sandbox was stopped, start it and ask again")
    return as_api_error(error)


def show_error(error: ApiError, source: str) -> dict[str, Any]:
    """Return an error as JSON.

    Args:
        error: it.
        source: who tells it.
    """
    phrase = HTTPStatus(error.status).phrase
    word = error.code or phrase.upper().replace(" ", "_")
    return {"statusCode": error.status, "error": phrase, "message": error.message, "code": word, "source": source}


def api_refusal(error: ApiError) -> Response:
    """Return the answer of the control plane."""
    return JSONResponse(show_error(error, API), error.status)


def daemon_refusal(error: ApiError) -> Response:
    """Return the answer of a sandbox's daemon."""
    return JSONResponse(show_error(error, DAEMON), error.status)
