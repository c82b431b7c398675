"""The instance metadata service of a guest: IMDSv2 at 169.254.169.254, with what AWS's microVMs show of it.

    PUT /latest/api/token                                        a session token
    GET /latest/meta-data/iam/security-credentials/              the line `execution_role`
    GET /latest/meta-data/iam/security-credentials/execution_role

Everything else, and credentials of a microVM without a role, is 404 (dossier, section 9.2; Amazon EC2 user guide, "Use
the Instance Metadata Service to access instance metadata"). Any process in the guest may ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import h11

from emberbox.byte_streams import ByteStream
from emberbox.model.errors import GuestError
from emberbox.model.iam.access import TemporaryCredentials
from emberbox.time_limits import limit_s

REQUEST_TIMEOUT_S: Final = limit_s(10.0)
TTL_MAX_S: Final = 21_600
TOKENS_MAX: Final = 256

_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - a path
_ROLES_PATH: Final = "/latest/meta-data/iam/security-credentials"
_ROLE: Final = "execution_role"
_HEAD_MAX: Final = 16 * 1024
_EVENTS_AT_ONCE: Final = 100
_TTL: Final = b"x-aws-ec2-metadata-token-ttl-seconds"
_TOKEN: Final = b"x-aws-ec2-metadata-token"


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: str = ""
    content_type: str = "text/plain"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class MetadataService:
    """Answers the connections of one guest.

    Args:
        credentials: returns the role's credentials, or None where the microVM has none.
    """

    def __init__(self, credentials: Callable[[], TemporaryCredentials | None]) -> None:
        self._credentials = credentials
        self._tokens: dict[str, float] = {}

    async def serve(self, stream: ByteStream) -> None:
        """Answer the requests of one connection, until the guest ends it or says nothing for 10 seconds."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        try:
            while True:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    request = await _read_request(connection, stream)
                    if request is None:
                        return
                    await _write(connection, stream, self._answer(request))
                if connection.our_state is not h11.DONE:
                    break
                connection.start_next_cycle()
                await asyncio.sleep(0)  # many requests can come at once
            await _end(stream)
        except (GuestError, OSError, TimeoutError, h11.LocalProtocolError):
            return  # the guest's own doing; there is nobody to tell
        except h11.RemoteProtocolError:
            with contextlib.suppress(GuestError, OSError, TimeoutError):
                await _write(connection, stream, _Answer(HTTPStatus.BAD_REQUEST))
                await _end(stream)
        finally:
            stream.close()

    def _answer(self, request: h11.Request) -> _Answer:
        headers = {bytes(name): bytes(value) for name, value in request.headers}
        path = bytes(request.target).partition(b"?")[0].decode("latin-1")
        try:
            if path == _TOKEN_PATH:
                return self._new_token(request.method, headers)
            if request.method not in (b"GET", b"HEAD"):
                raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
            self._check_token(headers.get(_TOKEN, b"").decode("latin-1"))
            return self._show(path)
        except _Refusal as refusal:
            return _Answer(refusal.status)

    def _new_token(self, method: bytes, headers: dict[bytes, bytes]) -> _Answer:
        if method != b"PUT":
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        if b"x-forwarded-for" in headers:  # a proxy that strangers can use must not fetch credentials for them
            raise _Refusal(HTTPStatus.FORBIDDEN)
        ttl = headers.get(_TTL, b"")
        if not ttl.isdigit() or not 1 <= int(ttl[:6]) <= TTL_MAX_S or len(ttl) > 6:
            raise _Refusal(HTTPStatus.BAD_REQUEST)
        now = time.monotonic()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        while len(self._tokens) >= TOKENS_MAX:
            del self._tokens[next(iter(self._tokens))]
        token = secrets.token_urlsafe(40)
        self._tokens[token] = now + int(ttl)
        return _Answer(HTTPStatus.OK, token, headers=((_TTL, ttl),))

    def _check_token(self, token: str) -> None:
        if self._tokens.get(token, 0.0) <= time.monotonic():
            raise _Refusal(HTTPStatus.UNAUTHORIZED)

    def _show(self, path: str) -> _Answer:
        known = path.removeprefix(_ROLES_PATH) in ("", "/", f"/{_ROLE}") and path.startswith(_ROLES_PATH)
        credentials = self._credentials() if known else None
        if credentials is None:
            raise _Refusal(HTTPStatus.NOT_FOUND)
        if not path.endswith(_ROLE):
            return _Answer(HTTPStatus.OK, _ROLE)
        document = {
            "Code": "Success",
            "LastUpdated": _moment(credentials.issued_at),
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": _moment(credentials.expires_at),
        }
        return _Answer(HTTPStatus.OK, json.dumps(document, indent=2), "application/json")


async def _read_request(connection: h11.Connection, stream: ByteStream) -> h11.Request | None:
    """Return the next request, its body read and thrown away; None when the guest has ended the connection."""
    request: h11.Request | None = None
    count = 0
    while True:
        event = connection.next_event()
        count += 1
        if count % _EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)  # a body can be a chunk for each byte
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.read())
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif isinstance(event, h11.ConnectionClosed):
            return None


async def _write(connection: h11.Connection, stream: ByteStream, answer: _Answer) -> None:
    body = answer.body.encode()
    headers = [(b"content-type", answer.content_type.encode()), (b"content-length", b"%d" % len(body))]
    response = h11.Response(status_code=answer.status, headers=[*headers, *answer.headers])
    data = connection.send(response) or b""
    data += connection.send(h11.Data(data=body)) or b""  # h11 itself leaves it out in an answer to HEAD
    data += connection.send(h11.EndOfMessage()) or b""
    await stream.write(data)


async def _end(stream: ByteStream) -> None:
    """Let the last answer arrive before the stream is closed."""
    stream.end_output()
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        while await stream.read():
            pass


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
