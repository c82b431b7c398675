"""A request as it came in and an answer ready to send, between the connection and the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: in capitals.
        raw_path: the path as sent, still percent-encoded, without the query string.
        query: the query string as sent, without the question mark.
        headers: by their names in lower case; repeated ones are joined by commas.
        body: yields the body as it comes; at most once. Starting it tells the client to go on (100-continue).
        source_ip: the peer's address.
    """

    method: str
    raw_path: str
    query: str
    headers: dict[str, str]
    body: Callable[[], Iterator[bytes]]
    source_ip: str = ""

    def query_pairs(self) -> list[tuple[str, str]]:
        """Return the decoded (name, value) pairs of the query string."""
        pairs = [pair.partition("=") for pair in self.query.split("&") if pair]
        return [(unquote_plus(name), unquote_plus(value)) for name, _, value in pairs]


@dataclass(frozen=True, slots=True)
class Content:
    """A body that comes from files.

    Attributes:
        pieces: path, offset and size of each.
        release: called once when it was sent, or will not be.
    """

    pieces: tuple[tuple[Path, int, int], ...]
    release: Callable[[], None]

    @property
    def size(self) -> int:
        """How many bytes it is."""
        return sum(size for _, _, size in self.pieces)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: of HTTP.
        headers: without Content-Length.
        body: the body, where it is short.
        content: the body, where it comes from files.
        length: what Content-Length says where that is not the body's size (of a HEAD).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    content: Content | None = None
    length: int | None = None
