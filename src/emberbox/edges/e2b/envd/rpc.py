"""Calls of E2B's daemon: which there are, and how one of each kind is answered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from emberbox.edges.e2b.envd.connect import (
    STREAM_TYPE,
    TIMEOUT_HEADER,
    UNARY_TYPE,
    Json,
    error_answer,
    read_frames,
    read_message,
    read_only_frame,
    read_whole,
    write_end,
    write_frame,
)
from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.visit import Visit
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import EmberboxError, GuestError

log = logging.getLogger(__name__)

KEEPALIVE_HEADER: Final = "keepalive-ping-interval"
KEEPALIVE_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a client wants of a stream.

    Args:
        timeout_s: how long it may last; None is for ever.
        keepalive_s: after so many silent seconds it is told that it is still there.
    """

    timeout_s: float | None = None
    keepalive_s: float | None = None


Unary = Callable[[Visit, Json], Awaitable[Json]]
ServerStream = Callable[[Visit, Json, Options], AsyncIterator[Json]]
ClientStream = Callable[[Visit, AsyncIterator[Json]], Awaitable[Json]]


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls, by the path that they have: `/process.Process/Start`."""

    unary: dict[str, Unary]
    server_streams: dict[str, ServerStream]
    client_streams: dict[str, ClientStream]


async def answer_call(calls: Calls, request: Request, visit: Visit) -> Response | None:
    """Answer a call; None where there is no such call."""
    path = request.url.path
    content_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if path in calls.unary:
        return await _answer_unary(calls.unary[path], request, visit, content_type)
    if path not in calls.server_streams and path not in calls.client_streams:
        return None
    if content_type != STREAM_TYPE:
        return Response(f"use {STREAM_TYPE}", 415, {"accept-post": STREAM_TYPE})
    if path in calls.client_streams:
        return await _answer_client_stream(calls.client_streams[path], request, visit)
    return await _answer_server_stream(calls.server_streams[path], request, visit)


async def _answer_unary(call: Unary, request: Request, visit: Visit, content_type: str) -> Response:
    if content_type != UNARY_TYPE:
        return Response(f"use {UNARY_TYPE}", 415, {"accept-post": UNARY_TYPE})
    try:
        async with visit.turn:
            message = read_message(await read_whole(request.stream()))
        return JSONResponse(await call(visit, message))
    except ClientDisconnect:
        raise
    except Exception as error:
        return error_answer(as_rpc_error(error))


async def _answer_server_stream(call: ServerStream, request: Request, visit: Visit) -> Response:
    """The request is read before the answer begins: from then on what comes is watched for the client's leaving."""
    try:
        async with visit.turn:
            message = await read_only_frame(request.stream())
    except CallError as error:
        return Response(write_end(error), media_type=STREAM_TYPE)
    frames = _frames(call(visit, message, read_options(request)))
    return StreamingResponse(frames, media_type=STREAM_TYPE)


async def _frames(answers: AsyncIterator[Json]) -> AsyncIterator[bytes]:
    try:
        async for answer in answers:
            yield write_frame(answer)
    except Exception as error:
        yield write_end(as_rpc_error(error))
    else:
        yield write_end()


async def _answer_client_stream(call: ClientStream, request: Request, visit: Visit) -> Response:
    try:
        answer = await call(visit, read_frames(request.stream()))
    except ClientDisconnect:
        raise
    except Exception as error:
        return Response(write_end(as_rpc_error(error)), media_type=STREAM_TYPE)
    return Response(write_frame(answer) + write_end(), media_type=STREAM_TYPE)


def read_options(request: Request) -> Options:
    """Return what a client wants of a stream; what is malformed counts as not said."""
    timeout, keepalive = request.headers.get(TIMEOUT_HEADER, ""), request.headers.get(KEEPALIVE_HEADER, "")
    timeout_s = int(timeout) / 1000 if timeout.isdigit() and len(timeout) <= 12 else None
    is_said = keepalive.isdigit() and len(keepalive) <= 6 and int(keepalive) > 0
    return Options(timeout_s or None, float(keepalive) if is_said else KEEPALIVE_S)


def as_rpc_error(error: Exception) -> CallError:
    """Return what a client is told of an error."""
    match error:
        case CallError():
            return error
        case Unreachable():
            return CallError(Code.UNAVAILABLE, f"the sandbox was not found: {error}")
        case GuestError():
            return CallError(Code.UNAVAILABLE, str(error))
        case EmberboxError():
            return CallError(Code.INTERNAL, str(error))
    log.error("a call in a sandbox failed", exc_info=error)
    return CallError(Code.INTERNAL, "an internal error occurred")
