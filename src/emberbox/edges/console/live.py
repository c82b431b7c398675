"""The push channel: one WebSocket, on which the page says what it watches and is told what has changed.

    client   {"watch": 1, "topic": "microvm", "of": {"microvmId": "microvm-..."}}
             {"unwatch": 1}
    server   {"watch": 1, "data": ...}
             {"watch": 1, "error": {"code": "...", "message": "..."}}, and no more of this one
             {"beat": 1}, now and then; close 4401 when the session has ended

Who takes nothing is told nothing: a topic reads when its last message has gone, so no more than one of each waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from emberbox.edges.console.sessions import Session
from emberbox.edges.console.topics import TOPICS, RefusedTopic, Watch
from emberbox.edges.console.visit import RefusedError, check_origin, get_session, make_caller, parts_of
from emberbox.model.caller import Caller
from emberbox.model.errors import EmberboxError, ServiceError

log = logging.getLogger(__name__)

WATCHES_MAX: Final = 24
CHANNELS_MAX: Final = 16
"""Of one session: as many pages may be open."""

SESSION_ENDED: Final = 4401
TOO_MANY: Final = 4429
_BEAT_S: Final = 5.0
_TEXT_MAX: Final = 4096


class _Channel:
    """One open channel."""

    def __init__(self, websocket: WebSocket, session: Session) -> None:
        self._websocket = websocket
        self._session = session
        self._watches: dict[int, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        """Serve it until the page goes or the session ends."""
        beating = asyncio.create_task(self._beat())
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait((beating, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (beating, reading, *self._watches.values()):
                task.cancel()
            await asyncio.gather(beating, reading, *self._watches.values(), return_exceptions=True)
            with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
                await self._websocket.close(SESSION_ENDED, "the session has ended")

    async def _beat(self) -> None:
        """Say that we are there, until the session ends."""
        with contextlib.suppress(RefusedError):
            while True:
                self._find_caller()
                await self._send({"beat": 1})
                await asyncio.sleep(_BEAT_S)

    async def _read(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, KeyError):
            while True:
                text = await self._websocket.receive_text()
                try:
                    content = json.loads(text[:_TEXT_MAX])
                except (ValueError, RecursionError):
                    continue
                self._take(content)

    def _take(self, content: Any) -> None:  # Any: JSON
        match content:
            case {"watch": int(number), "topic": str(topic), "of": dict(of)} if topic in TOPICS:
                if number not in self._watches and len(self._watches) < WATCHES_MAX:
                    watch = Watch(parts_of(self._websocket), self._find_caller, of)
                    self._watches[number] = asyncio.create_task(self._follow(number, topic, watch))
            case {"unwatch": int(number)}:
                task = self._watches.pop(number, None)
                if task is not None:
                    task.cancel()

    async def _follow(self, number: int, topic: str, watch: Watch) -> None:
        try:
            async with contextlib.aclosing(TOPICS[topic](watch)) as documents:  # type: ignore[type-var]
                async for document in documents:
                    await self._send({"watch": number, "data": document})
        except RefusedError:
            return  # the session has ended, which is told by the close
        except RefusedTopic as error:
            await self._send({"watch": number, "error": {"code": error.told_code, "message": error.message}})
        except ServiceError as error:
            await self._send({"watch": number, "error": {"code": error.code, "message": error.message}})
        except (EmberboxError, OSError) as error:
            log.warning("the console's topic %s ended: %s", topic, error)
            told = {
                "code": "InternalServerException",
                "message": "The server could not read this; load the page again.",
            }
            await self._send({"watch": number, "error": told})

    def _find_caller(self) -> Caller:
        return make_caller(self._websocket, self._session)

    async def _send(self, document: Any) -> None:  # Any: JSON
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
            async with self._sending:
                await self._websocket.send_text(json.dumps(document, separators=(",", ":"), default=str))


async def serve_live(websocket: WebSocket) -> None:
    """Open the channel.

    Raises:
        RefusedError: nobody is logged in, or another page asks.
    """
    check_origin(websocket, needed=True)
    session = get_session(websocket)
    open_ones: dict[Session, int] = websocket.app.state.channels
    await websocket.accept()
    if open_ones.get(session, 0) >= CHANNELS_MAX:
        await websocket.close(TOO_MANY, f"more than {CHANNELS_MAX} pages are open")
        return
    open_ones[session] = open_ones.get(session, 0) + 1
    try:
        await _Channel(websocket, session).serve()
    finally:
        open_ones[session] -= 1
        if not open_ones[session]:
            del open_ones[session]
