"""One request to the console: whose session it belongs to, and whether a page of ours has sent it.

A browser sends the cookie along whoever made it ask. So what changes something needs the session's CSRF token in a
header, which only a page of ours knows; and whatever says where it comes from must come from here. WebSockets cannot
carry the header, and always say where they come from.
"""

from __future__ import annotations

import hmac
import json
import uuid
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response

from emberbox.edges.console.parts import Parts
from emberbox.edges.console.sessions import LIFE_S, Session
from emberbox.model.caller import Caller
from emberbox.model.errors import EmberboxError

COOKIE: Final = "emberbox-console"
SECURE_COOKIE: Final = "__Host-emberbox-console"
CSRF_HEADER: Final = "x-emberbox-csrf"
BODY_BYTES_MAX: Final = 1 << 20
_JSON: Final = "application/json"


class RefusedError(EmberboxError):
    """A request that is answered with an error.

    Args:
        status: of the HTTP answer.
        code: for programs.
        message: for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> Response:
        """Return the answer."""
        return JSONResponse({"code": self.code, "message": self.message}, self.status)


def parts_of(connection: HTTPConnection) -> Parts:
    """Return what the console stands on."""
    parts: Parts = connection.app.state.parts
    return parts


def is_secure(connection: HTTPConnection) -> bool:
    """Say whether the browser sees TLS: the operator has said so, or it ends here."""
    return parts_of(connection).url.startswith("https:") or connection.url.scheme in ("https", "wss")


def find_session(connection: HTTPConnection) -> Session | None:
    """Return the session of the request's cookie."""
    name = SECURE_COOKIE if is_secure(connection) else COOKIE
    value = connection.cookies.get(name)
    return None if value is None else parts_of(connection).sessions.find(value)


def get_session(connection: HTTPConnection) -> Session:
    """Return the session of the request's cookie.

    Raises:
        RefusedError: there is none, or it has ended.
    """
    session = find_session(connection)
    if session is None:
        raise RefusedError(401, "NoSession", "You are not logged in, or your session has ended: log in again.")
    return session


def set_cookie(response: Response, connection: HTTPConnection, session_id: str) -> None:
    """Let the browser keep a session's id where no script reads it; an empty one is forgotten."""
    secure = is_secure(connection)
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE,
        session_id,
        max_age=int(LIFE_S) if session_id else 0,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def check_origin(connection: HTTPConnection, *, needed: bool) -> None:
    """Refuse what another page has sent.

    Args:
        connection: the request.
        needed: whether it must say where it comes from; programs that are no browsers do not.

    Raises:
        RefusedError: it comes from elsewhere.
    """
    origin, site = connection.headers.get("origin"), connection.headers.get("sec-fetch-site")
    wanted = urlsplit(parts_of(connection).url).netloc or connection.headers.get("host", "")
    same = origin is not None and urlsplit(origin).netloc == wanted
    if (origin is None and needed) or (origin is not None and not same) or site not in (None, "same-origin", "none"):
        raise RefusedError(403, "OtherOrigin", "This request comes from a page of another origin.")


def check_csrf(request: Request, session: Session) -> None:
    """Refuse what no page of ours has sent.

    Raises:
        RefusedError: the token is missing or wrong.
    """
    check_origin(request, needed=False)
    if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode()):
        raise RefusedError(403, "NoCsrfToken", "This request lacks the token of your session: load the page again.")


def make_caller(connection: HTTPConnection, session: Session) -> Caller:
    """Return who asks.

    Raises:
        RefusedError: the session has ended.
    """
    parts = parts_of(connection)
    credential = parts.sessions.credential(session)
    if credential is None:
        raise RefusedError(401, "NoSession", "Your session has ended: log in again.")
    return Caller(
        account_id=credential.account_id,
        access_key_id=credential.access_key_id,
        region=parts.region,
        request_id=str(uuid.uuid4()),
        source_ip=connection.client.host if connection.client else "",
        credential=credential,
        is_secure=is_secure(connection),
    )


async def read_json(request: Request) -> dict[str, Any]:  # Any: JSON
    """Return the object that a request carries. Its type must be named: no form of another page can do that.

    Raises:
        RefusedError: it carries none, or too large a one.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
        raise RefusedError(415, "NoJson", f"the Content-Type must be {_JSON}")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise RefusedError(413, "TooLarge", f"the body has more than {BODY_BYTES_MAX} bytes")
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise RefusedError(400, "NoJson", "the body is not JSON, or too deep") from None
    if not isinstance(content, dict):
        raise RefusedError(400, "NoJson", "the body must be an object")
    return content
