"""A request and an answer as plain data, between the ASGI server and the AWS protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote_plus

from emberbox.edges.aws.errors import BusyError, RequestTooLargeError, WireError

BODY_LIMIT = 6 * 1024 * 1024  # bytes; what Lambda takes in one synchronous request
FREE_BYTES = 64 * 1024  # of each body; nearly every request has less
ROOM_BYTES = 64 * 1024 * 1024  # for what is longer, of all requests that are being answered
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
        is_secure: it came over TLS.
    """

    method: str
    raw_path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    source_ip: str = ""
    is_secure: bool = False

    def header(self, name: str) -> str | None:
        """Return the first value of a header, or None. The name is in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def query_pairs(self) -> list[tuple[str, str]]:
        """Return the decoded (name, value) pairs of the query string; a raw plus sign is a space.

        The signature and the parser must read the query alike, so both use this.
        """
        return decode_pairs(self.query)


def decode_pairs(text: str) -> list[tuple[str, str]]:
    """Return the decoded (name, value) pairs of a query string or of a form."""
    pairs = [pair.partition("=") for pair in text.split("&") if pair]
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, ready to send."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ClientGoneError(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


class BodyRoom:
    """The memory that the bodies of all requests together may take, beside a small part that each one has free."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._left = room_bytes

    def take(self, count: int) -> bool:
        """Take so many bytes, if there are as many."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Give back what was taken."""
        self._left += count


class BodyShare:
    """What one request takes of the room; given back when it has been answered."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self.taken = 0

    def grow(self, size: int) -> bool:
        """Say whether there is room for a body of so many bytes."""
        more = size - FREE_BYTES - self.taken
        if more <= 0:
            return True
        if not self._room.take(more):
            return False
        self.taken += more
        return True

    def give_back(self) -> None:
        """Give back all of it; repeats are harmless."""
        self._room.give_back(self.taken)
        self.taken = 0


def read_head(scope: Mapping[str, Any]) -> HttpRequest:
    """Read what a request says before its body, which is left empty.

    Raises:
        WireError: the path holds bytes that no client may send raw; AWS's gateway answers such with a null.
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
        body=b"",
        source_ip=(scope.get("client") or ("",))[0],
        is_secure=scope.get("scheme") == "https",
    )


async def read_body(receive: Any, share: BodyShare) -> bytes:
    """Read a whole body. How long that may take is the server's business (`ConnectionGuard`).

    Raises:
        RequestTooLargeError: it is longer than `BODY_LIMIT`.
        BusyError: there is no room for it.
        ClientGoneError: the client hung up, or the server on it.
    """
    body, size = await _read(receive, share.grow)
    if body is not None:
        return body
    share.give_back()
    if size > BODY_LIMIT:
        raise RequestTooLargeError(f"Request must be smaller than {BODY_LIMIT} bytes")
    raise BusyError("The server has too many large requests at the moment; try again")


async def skip_body(receive: Any) -> None:
    """Read the body of a request that is refused, and keep nothing of it.

    Raises:
        ClientGoneError: the client hung up.
    """
    await _read(receive, lambda _: False)


async def _read(receive: Any, may_keep: Callable[[int], bool]) -> tuple[bytes | None, int]:
    """Return a body, and how long it is; None instead of one of which not everything may be kept."""
    chunks: list[bytes] = []
    size, kept, more = 0, True, True
    while more and size <= _DRAIN_LIMIT:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGoneError
        chunk, more = event.get("body", b""), event.get("more_body", False)
        size += len(chunk)
        kept = kept and size <= BODY_LIMIT and may_keep(size)
        if kept:
            chunks.append(chunk)
        else:
            chunks.clear()
    return (b"".join(chunks) if kept else None), size


async def send_answer(answer: Answer, send: Any) -> None:
    """Send an answer; a `content-length` is added unless its status forbids a body."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
