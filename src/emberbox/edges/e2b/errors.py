"""Errors as E2B's API tells them: an HTTP status, and JSON with the same number and a sentence."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from emberbox.edges.sandboxes.errors import ApiError


def error_response(error: ApiError) -> Response:
    """Return the answer."""
    return JSONResponse({"code": error.status, "message": error.message}, error.status)
