"""Logging in and out: by an access key, or by a link that the command line has asked for."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emberbox.edges.console.sessions import LINK_S, Session
from emberbox.edges.console.visit import (
    COOKIE,
    SECURE_COOKIE,
    RefusedError,
    check_csrf,
    check_origin,
    find_session,
    get_session,
    make_caller,
    parts_of,
    read_json,
    set_cookie,
)
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord, KnownSender, Refusal, Stranger

log = logging.getLogger(__name__)

_SOURCE: Final = "console"
_TEXT_MAX: Final = 4096
_REFUSED: Final = "This access key does not exist, is inactive, or its secret is another."
_LINK_REFUSED: Final = "This link was used already, or is older than two minutes: run `emberbox console` again."


async def open_session(request: Request) -> Response:
    """Log in with a key or the code of a link; the answer sets the cookie.

    Raises:
        RefusedError: neither proves anything, or too many have failed.
    """
    check_origin(request, needed=False)
    content = await read_json(request)
    code = content.get("code")
    credential = _redeem(request, str(code)) if code is not None else _check_key(request, content, "ConsoleLogin")
    session_id, session = parts_of(request).sessions.open(credential)
    response = JSONResponse(_describe(request, session, credential))
    set_cookie(response, request, session_id)
    return response


async def make_link(request: Request) -> Response:
    """Return a code that logs in once; `emberbox console` asks for it with a key.

    Raises:
        RefusedError: the key proves nothing, or too many have failed.
    """
    check_origin(request, needed=False)
    credential = _check_key(request, await read_json(request), "CreateConsoleLink")
    return JSONResponse({"code": parts_of(request).sessions.make_link(credential), "expiresInSeconds": int(LINK_S)})


async def tell_session(request: Request) -> Response:
    """Say who is logged in; null where nobody is."""
    session = find_session(request)
    if session is None:
        return JSONResponse(None)
    credential = make_caller(request, session).credential
    assert credential is not None
    return JSONResponse(_describe(request, session, credential))


async def close_session(request: Request) -> Response:
    """Log out.

    Raises:
        RefusedError: nobody is logged in, or another page asks.
    """
    check_csrf(request, get_session(request))
    for name in (COOKIE, SECURE_COOKIE):
        parts_of(request).sessions.close(request.cookies.get(name, ""))
    response = Response(status_code=204)
    set_cookie(response, request, "")
    return response


def _describe(request: Request, session: Session, credential: Credential) -> dict[str, str]:
    return {
        "csrf": session.csrf,
        "accountId": credential.account_id,
        "accessKeyId": credential.access_key_id,
        "principal": credential.principal_arn,
        "name": credential.name,
        "region": parts_of(request).region,
    }


def _check_key(request: Request, content: dict[str, Any], operation: str) -> Credential:
    key_id, secret, token = (content.get(name) for name in ("accessKeyId", "secretAccessKey", "sessionToken"))
    if not isinstance(key_id, str) or not isinstance(secret, str) or not isinstance(token, str | None):
        raise RefusedError(400, "NoKey", "accessKeyId and secretAccessKey must be texts; sessionToken may be one")
    parts, counted = parts_of(request), (f"source {_source(request)}", f"key {key_id[:128]}")
    wait_s = parts.attempts.wait_s(*counted)
    if wait_s:
        raise RefusedError(429, "TooManyAttempts", f"Too many logins have failed: try again in {wait_s:.0f} seconds.")
    credential = parts.sessions.check(key_id, secret, token or None)
    if credential is None:
        parts.attempts.note_failure(*counted)
        _record(request, operation, Stranger(key_id[:128]), Refusal("Failure", _REFUSED))
        raise RefusedError(403, "WrongKey", _REFUSED)
    _record(request, operation, KnownSender.of(credential), None)
    return credential


def _redeem(request: Request, code: str) -> Credential:
    parts, counted = parts_of(request), f"link {_source(request)}"
    if parts.attempts.wait_s(counted):
        raise RefusedError(429, "TooManyAttempts", "Too many links have failed: try again in a minute.")
    credential = parts.sessions.redeem(code)
    if credential is None:
        parts.attempts.note_failure(counted)
        _record(request, "ConsoleLogin", Stranger(), Refusal("Failure", _LINK_REFUSED))
        raise RefusedError(403, "WrongLink", _LINK_REFUSED)
    _record(request, "ConsoleLogin", KnownSender.of(credential), None)
    return credential


def _source(request: Request) -> str:
    return request.client.host if request.client else ""


def _record(request: Request, operation: str, sender: KnownSender | Stranger, refusal: Refusal | None) -> None:
    """Leave a record of a login, whatever came of it."""
    parts = parts_of(request)
    parts.record(
        AuditRecord(
            id=str(uuid.uuid4()),
            happened_at=datetime.now(UTC),
            operation=operation,
            source=_SOURCE,
            is_data=False,
            region=parts.region,
            sender=sender,
            source_ip=_source(request),
            user_agent=request.headers.get("user-agent", "")[:_TEXT_MAX],
            request_id=str(uuid.uuid4()),
            read_only=False,
            status=200 if refusal is None else 403,
            refusal=refusal,
        )
    )
