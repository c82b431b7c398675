"""The Connect protocol over HTTP, with messages as JSON (connectrpc.com/docs/protocol).

    unary      POST, application/json              the message, or {"code": …, "message": …} with the status of the code
    streams    POST, application/connect+json      frames: one byte of flags, four of length, the message

The last frame of an answer has the flag 2, and says how it ended.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from emberbox.model.errors import EmberboxError

Json = dict[str, Any]  # Any: a message is read member by member

UNARY_TYPE: Final = "application/json"
STREAM_TYPE: Final = "application/connect+json"
MESSAGE_BYTES_MAX: Final = 2 << 20
TIMEOUT_HEADER: Final = "connect-timeout-ms"

_HEAD: Final = struct.Struct(">BI")
_COMPRESSED, _END = 1, 2


class Code(StrEnum):
    """How a call failed."""

    CANCELED = "canceled"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    UNAUTHENTICATED = "unauthenticated"


_STATUSES: Final[Mapping[Code, int]] = {
    Code.CANCELED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
"""The statuses of unary answers, of which clients that do not know Connect make something."""


class RpcError(EmberboxError):
    """A call that failed.

    Args:
        code: how.
        message: for the client.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def shown(self) -> Json:
        """Return it as the protocol tells it."""
        return {"code": str(self.code), "message": self.message}

    def response(self) -> Response:
        """Return the answer to a unary call."""
        return JSONResponse(self.shown(), _STATUSES[self.code])


def read_message(data: bytes) -> Json:
    """Return a message.

    Raises:
        RpcError: it is no JSON object.
    """
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise RpcError(Code.INVALID_ARGUMENT, "the message is not JSON, or too deep") from None
    if not isinstance(content, dict):
        raise RpcError(Code.INVALID_ARGUMENT, "the message must be an object")
    return content


async def read_whole(parts: AsyncIterator[bytes]) -> bytes:
    """Return the body of a unary call.

    Raises:
        RpcError: it is too large.
    """
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > MESSAGE_BYTES_MAX:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message has at most {MESSAGE_BYTES_MAX} bytes")
    return bytes(data)


async def read_frames(parts: AsyncIterator[bytes]) -> AsyncIterator[Json]:
    """Yield the messages of a client's stream.

    Raises:
        RpcError: it is malformed.
    """
    held = bytearray()
    async for part in parts:
        held += part
        while len(held) >= _HEAD.size:
            flags, length = _HEAD.unpack_from(held)
            if flags & _COMPRESSED:
                raise RpcError(Code.UNIMPLEMENTED, "compressed messages are not taken")
            if length > MESSAGE_BYTES_MAX:
                raise RpcError(Code.RESOURCE_EXHAUSTED, f"a message has at most {MESSAGE_BYTES_MAX} bytes")
            if len(held) < _HEAD.size + length:
                break
            message = bytes(held[_HEAD.size : _HEAD.size + length])
            del held[: _HEAD.size + length]
            if flags & _END:
                return
            yield read_message(message)
    if held:
        raise RpcError(Code.INVALID_ARGUMENT, "the stream ended within a message")


async def read_only_frame(parts: AsyncIterator[bytes]) -> Json:
    """Return the one message with which a client asks for a stream.

    Raises:
        RpcError: there is none, or it is malformed.
    """
    async for message in read_frames(parts):
        return message
    raise RpcError(Code.INVALID_ARGUMENT, "the message is missing")


def write_frame(message: Mapping[str, Any]) -> bytes:
    """Return a message as a frame."""
    return _frame(0, message)


def write_end(error: RpcError | None = None) -> bytes:
    """Return the last frame of an answer."""
    return _frame(_END, {} if error is None else {"error": error.shown()})


def _frame(flags: int, message: Mapping[str, Any]) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(flags, len(data)) + data
