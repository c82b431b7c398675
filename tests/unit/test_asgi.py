"""Serving an ASGI application: what a client sees of an answer, and when."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from emberbox import asgi

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n"


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"body"})


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every piece that is written to a client."""
    written: list[bytes] = []
    made = asgi._Gathering.__init__

    class Seen:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    monkeypatch.setattr(asgi._Gathering, "__init__", lambda self, transport: made(self, Seen(transport)))  # type: ignore[arg-type]
    return written


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_an_answer_is_written_in_one_piece(writes: list[bytes], more: bytes) -> None:
    """A server that is killed leaves a client with all of it or nothing: botocore takes a head alone for a success."""
    with listener() as bound:
        port = bound.getsockname()[1]
        async with asgi.serve(answer, bound, 5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(1 if more else 2):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(HEAD)
                assert await reader.readexactly(4) == b"body"
            if more:
                assert await reader.read() == b""
            writer.close()
    assert [piece.startswith(HEAD) and piece.endswith(b"\r\n\r\nbody") for piece in writes] == [True] * len(writes)
    assert len(writes) == (1 if more else 2)
