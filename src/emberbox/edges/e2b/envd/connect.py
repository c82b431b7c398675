"""The Connect protocol over HTTP, with messages as JSON (connectrpc.com/docs/protocol).

    unary      POST, application/json              the message, or {"code": …, "message": …} with the status of the code
    streams    POST, application/connect+json      frames: one byte of flags, four of length, the message

The last frame of an answer has the flag 2, and says how it ended.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from emberbox.edges.sandboxes.errors import CODE_STATUSES, CallError, Code

Json = dict[str, Any]  # Any: a message is read member by member

UNARY_TYPE: Final = "application/json"
STREAM_TYPE: Final = "application/connect+json"
MESSAGE_BYTES_MAX: Final = 2 << 20
TIMEOUT_HEADER: Final = "connect-timeout-ms"

_HEAD: Final = struct.Struct(">BI")
_COMPRESSED, _END = 1, 2


def show_error(error: CallError) -> Json:
    """Return an error as the protocol tells it."""
    return {"code": str(error.code), "message": error.message}


def error_answer(error: CallError) -> Response:
    """Return the answer to a unary call that failed; of its status clients that do not know Connect make something."""
    return JSONResponse(show_error(error), CODE_STATUSES[error.code])


def read_message(data: bytes) -> Json:
    """Return a message.

    Raises:
        CallError: it is no JSON object.
    """
    try:
        content = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise CallError(Code.INVALID_ARGUMENT, "the message is not JSON, or too deep") from None
    if not isinstance(content, dict):
        raise CallError(Code.INVALID_ARGUMENT, "the message must be an object")
    return content


async def read_whole(parts: AsyncIterator[bytes]) -> bytes:
    """Return the body of a unary call.

    Raises:
        CallError: it is too large.
    """
    data = bytearray()
    async for part in parts:
        data += part
        if len(data) > MESSAGE_BYTES_MAX:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"a message has at most {MESSAGE_BYTES_MAX} bytes")
    return bytes(data)


async def read_frames(parts: AsyncIterator[bytes]) -> AsyncIterator[Json]:
    """Yield the messages of a client's stream.

    Raises:
        CallError: it is malformed.
    """
    held = bytearray()
    async for part in parts:
        held += part
        while len(held) >= _HEAD.size:
            flags, length = _HEAD.unpack_from(held)
            if flags & _COMPRESSED:
                raise CallError(Code.UNIMPLEMENTED, "compressed messages are not taken")
            if length > MESSAGE_BYTES_MAX:
                raise CallError(Code.RESOURCE_EXHAUSTED, f"a message has at most {MESSAGE_BYTES_MAX} bytes")
            if len(held) < _HEAD.size + length:
                break
            message = bytes(held[_HEAD.size : _HEAD.size + length])
            del held[: _HEAD.size + length]
            if flags & _END:
                return
            yield read_message(message)
    if held:
        raise CallError(Code.INVALID_ARGUMENT, "the stream ended within a message")


async def read_only_frame(parts: AsyncIterator[bytes]) -> Json:
    """Return the one message with which a client asks for a stream.

    Raises:
        CallError: there is none, or it is malformed.
    """
    async for message in read_frames(parts):
        return message
    raise CallError(Code.INVALID_ARGUMENT, "the message is missing")


def write_frame(message: Mapping[str, Any]) -> bytes:
    """Return a message as a frame."""
    return _frame(0, message)


def write_end(error: CallError | None = None) -> bytes:
    """Return the last frame of an answer."""
    return _frame(_END, {} if error is None else {"error": show_error(error)})


def _frame(flags: int, message: Mapping[str, Any]) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(flags, len(data)) + data
