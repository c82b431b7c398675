"""The instance metadata service, spoken to as a guest does: over a stream of its agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import cast

import h11
import pytest

from emberbox.guest.metadata import MetadataService
from emberbox.guest.streams import GuestStream
from emberbox.model.errors import GuestError
from emberbox.model.iam.access import TemporaryCredentials

ROLES = "/latest/meta-data/iam/security-credentials/"
ISSUED = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
CREDENTIALS = TemporaryCredentials("ASIAX", "secret", "token", ISSUED, ISSUED + timedelta(minutes=55))
TTL = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}


class Guest:
    """The guest's end of one connection."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.answered: asyncio.Queue[bytes] = asyncio.Queue()
        self.closed = False
        self._http = h11.Connection(h11.CLIENT)

    async def read(self) -> bytes:
        return await self.sent.get()

    async def write(self, data: bytes) -> None:
        if self.closed:
            raise GuestError("closed")
        self.answered.put_nowait(data)

    def end_output(self) -> None:
        self.answered.put_nowait(b"")
        self.sent.put_nowait(b"")

    def close(self) -> None:
        self.closed = True

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Send a request and return the answer's status and body."""
        fields = [("host", "169.254.169.254"), *(headers or {}).items()]
        data = self._http.send(h11.Request(method=method, target=path, headers=fields)) or b""
        self.sent.put_nowait(data + (self._http.send(h11.EndOfMessage()) or b""))
        status, body = 0, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self.answered.get())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            else:
                self._http.start_next_cycle()
                return status, body.decode()

    async def token(self) -> dict[str, str]:
        """Return the header with a new token."""
        status, token = await self.ask("PUT", "/latest/api/token", TTL)
        assert status == 200
        return {"X-aws-ec2-metadata-token": token}


@pytest.fixture
async def guest() -> AsyncIterator[Guest]:
    async for one in serve(CREDENTIALS):
        yield one


async def serve(credentials: TemporaryCredentials | None) -> AsyncIterator[Guest]:
    guest = Guest()
    task = asyncio.create_task(MetadataService(lambda: credentials).serve(cast("GuestStream", guest)))
    yield guest
    guest.sent.put_nowait(b"")
    await task
    assert guest.closed


async def test_a_token_opens_the_roles_credentials(guest: Guest) -> None:
    token = await guest.token()
    assert await guest.ask("GET", ROLES, token) == (200, "execution_role")
    status, body = await guest.ask("GET", f"{ROLES}execution_role", token)
    assert status == 200
    assert json.loads(body) == {
        "Code": "Success",
        "LastUpdated": "2026-11-24T12:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIAX",
        "SecretAccessKey": "secret",
        "Token": "token",
        "Expiration": "2026-11-24T12:55:00Z",
    }


@pytest.mark.parametrize("headers", [{}, {"X-aws-ec2-metadata-token": "guess"}])
async def test_without_a_token_nothing_is_shown(guest: Guest, headers: dict[str, str]) -> None:
    assert await guest.ask("GET", ROLES, headers) == (401, "")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PUT", {}, 400),
        ("PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "0"}, 400),
        ("PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "21601"}, 400),
        ("PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "x"}, 400),
        ("PUT", {**TTL, "X-Forwarded-For": "203.0.113.1"}, 403),
        ("GET", TTL, 405),
    ],
)
async def test_a_token_is_given_on_imdsv2s_terms(
    guest: Guest, method: str, headers: dict[str, str], status: int
) -> None:
    assert (await guest.ask(method, "/latest/api/token", headers))[0] == status


@pytest.mark.parametrize("path", ["/", "/latest/meta-data/", f"{ROLES}other", "/latest/user-data"])
async def test_nothing_else_is_there(guest: Guest, path: str) -> None:
    assert (await guest.ask("GET", path, await guest.token()))[0] == 404


async def test_a_microvm_without_a_role_has_no_credentials() -> None:
    async for guest in serve(None):
        token = await guest.token()
        assert (await guest.ask("GET", ROLES, token))[0] == 404
        assert (await guest.ask("GET", f"{ROLES}execution_role", token))[0] == 404


async def test_what_is_not_http_ends_the_connection() -> None:
    guest = Guest()
    guest.sent.put_nowait(b"\x16\x03\x01 no http\r\n\r\n")
    await MetadataService(lambda: None).serve(cast("GuestStream", guest))
    assert (await guest.answered.get()).startswith(b"HTTP/1.1 400")
    assert guest.closed


async def test_tokens_of_one_guest_are_bounded(guest: Guest) -> None:
    first = await guest.token()
    for _ in range(256):
        await guest.token()
    assert (await guest.ask("GET", ROLES, first))[0] == 401
