"""Pages of lists: opaque, signed tokens that say where the last page ended."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from emberbox.control.requests.key_files import load_key
from emberbox.model.errors import ValidationError

DEFAULT_PAGE = 10
_MAC_BYTES = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list is asked for.

    Args:
        limit: so many at most.
        token: from the page before; None asks for the first.
    """

    limit: int = DEFAULT_PAGE
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and what the next one is asked for with; None at the end."""

    items: Sequence[T]
    next_token: str | None = None


class PageTokens:
    """Makes and reads page tokens; the key survives a restart, so that tokens do.

    Args:
        path: the key's file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._key = load_key(path)

    def seal(self, operation: str, place: Sequence[Any]) -> str:  # Any: what JSON has; each list knows its places
        """Return a token for a place in the list of an operation."""
        body = json.dumps([operation, *place]).encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def open(self, operation: str, token: str) -> list[Any]:  # Any: see `seal`
        """Return the place.

        Raises:
            ValidationError: the token is not one of ours, or belongs to another operation.
        """
        try:
            sealed = base64.urlsafe_b64decode(token.rstrip("=") + "=" * (-len(token.rstrip("=")) % 4))
        except (ValueError, binascii.Error):
            sealed = b""
        mac, body = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        if body and hmac.compare_digest(mac, self._mac(body)):
            name, *place = json.loads(body)
            if name == operation:
                return list(place)
        raise ValidationError("Invalid nextToken: use the one that the page before gave, with the same operation")

    def open_moment(self, operation: str, token: str | None) -> tuple[datetime, str] | None:
        """Return a place that is a time and an id; None at the beginning of the list."""
        if token is None:
            return None
        seconds, last = self.open(operation, token)
        return datetime.fromtimestamp(seconds, UTC), last

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)[:_MAC_BYTES]


def cut_page(tokens: PageTokens, name: str, items: Sequence[T], asked: PageRequest) -> Page[T]:
    """Cut a page out of a whole short list that only grows at its end.

    Args:
        tokens: makes and reads tokens.
        name: of the list; a token counts for no other.
        items: the list.
        asked: which page.

    Raises:
        ValidationError: the token is not one of this list's.
    """
    start = 0 if asked.token is None else int(tokens.open(name, asked.token)[0])
    end = start + asked.limit
    return Page(list(items[start:end]), tokens.seal(name, [end]) if end < len(items) else None)
