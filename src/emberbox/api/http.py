"""A request and an answer as plain data, between the ASGI server and the AWS protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus

from emberbox.api.errors import RequestTooLargeError, WireError

BODY_LIMIT = 6 * 1024 * 1024  # bytes; what Lambda takes in one synchronous request
# A client that is still sending sees our answer only after it has sent all, so an oversized body is read and
# thrown away, up to here.
_DRAIN_LIMIT = 10 * BODY_LIMIT
_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F))) - {"#"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it came in.

    Attributes:
        method: in capitals.
        raw_path: the path as sent, still percent-encoded, without the query string.
        query: the query string as sent, without the question mark.
        headers: (name in lower case, value) in the order sent; names may repeat.
        body: all bytes of the body.
        source_ip: the peer's address, or an empty string.
    """

    method: str
    raw_path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str = ""

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None. The name is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def query_pairs(self) -> list[tuple[str, str]]:
        """Return the decoded (name, value) pairs of the query string; a raw plus sign is a space.

        The signature and the parser must read the query alike, so both use this.
        """
        pairs = [pair.partition("=") for pair in self.query.split("&") if pair]
        return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, ready to send."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ClientGoneError(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


async def read_request(scope: Mapping[str, Any], receive: Any) -> HttpRequest:
    """Read a whole request.

    Raises:
        RequestTooLargeError: the body is longer than `BODY_LIMIT`.
        WireError: the path holds bytes that no client may send raw; AWS's gateway answers such with a null.
        ClientGoneError: the client hung up.
    """
    raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
    path = raw_path.decode("latin-1")
    if not _PRINTABLE.issuperset(path):
        raise WireError(None)
    headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"])
    return HttpRequest(
        method=scope["method"].upper(),
        raw_path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=await _read_body(receive),
        source_ip=(scope.get("client") or ("",))[0],
    )


async def _read_body(receive: Any) -> bytes:
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= _DRAIN_LIMIT:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = event.get("body", b"")
        size += len(chunk)
        if size <= BODY_LIMIT:
            chunks.append(chunk)
        more = event.get("more_body", False)
    if size > BODY_LIMIT:
        raise RequestTooLargeError(f"Request must be smaller than {BODY_LIMIT} bytes")
    return b"".join(chunks)


async def send_answer(answer: Answer, send: Any) -> None:
    """Send an answer; a `content-length` is added unless its status forbids a body."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
