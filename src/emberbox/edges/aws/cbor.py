"""Refusals in the protocol that speaks CBOR (`smithy-rpc-v2-cbor`), in which nothing is offered.

A refusal is a map of texts, and that is all of CBOR (RFC 8949) that is needed to write one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emberbox.edges.aws.errors import WireError
from emberbox.edges.aws.http import Answer

PROTOCOL: Final = "rpc-v2-cbor"
"""What the header `smithy-protocol` says."""

_TEXT, _MAP = 3, 5
_NULL: Final = b"\xf6"
_BYTES_MAX: Final = 4096  # a text that says no is short


def serialise_cbor_wire_error(error: WireError, request_id: str) -> Answer:
    """Turn a refusal of the wire layer into an answer."""
    body = encode_texts({"__type": error.error_code, "message": error.message})
    headers = {
        "x-amzn-RequestId": request_id,
        "x-amzn-ErrorType": error.error_code,
        "smithy-protocol": PROTOCOL,
        "content-type": "application/cbor",
    }
    return Answer(error.status, headers, body)


def encode_texts(texts: Mapping[str, str | None]) -> bytes:
    """Encode a map of texts and nulls."""
    pairs = (_text(name) + (_NULL if text is None else _text(text)) for name, text in texts.items())
    return _head(_MAP, len(texts)) + b"".join(pairs)


def _text(text: str) -> bytes:
    encoded = text.encode(errors="replace")[:_BYTES_MAX]
    return _head(_TEXT, len(encoded)) + encoded


def _head(kind: int, count: int) -> bytes:
    """Return an item's first bytes: its kind, and how long it is."""
    if count < 24:
        return bytes([kind << 5 | count])
    if count < 1 << 8:
        return bytes([kind << 5 | 24, count])
    return bytes([kind << 5 | 25]) + count.to_bytes(2, "big")
