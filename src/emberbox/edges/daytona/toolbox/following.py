"""Logs of sessions' commands as they are written, over a WebSocket."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from emberbox.edges.daytona.toolbox import session_scripts as scripts
from emberbox.edges.daytona.toolbox.entry import Entry
from emberbox.edges.daytona.toolbox.sessions import Sessions, check
from emberbox.edges.daytona.toolbox.sockets import close, race
from emberbox.edges.sandboxes.call import Call
from emberbox.edges.sandboxes.scripts import run_script
from emberbox.edges.sandboxes.visit import Visit
from emberbox.guest.streams import STDERR
from emberbox.machine.base import GuestCommand
from emberbox.model.errors import EmberboxError

log = logging.getLogger(__name__)

OUT, ERR = b"\x01\x01\x01", b"\x02\x02\x02"
"""Say of what follows that it is output, or error output."""

_GOING_AWAY: Final = 1001


class Follower:
    """Answers requests for logs that go on.

    Args:
        entry: lets them into sandboxes.
        sessions: knows where sessions are.
    """

    def __init__(self, entry: Entry, sessions: Sessions) -> None:
        self._entry = entry
        self._sessions = sessions

    async def follow(self, websocket: WebSocket, call: Call) -> None:
        """`GET /process/session/{name}/command/{id}/logs?follow=true`.

        Raises:
            EmberboxError: it may not, or there is no such command; the WebSocket is not accepted yet.
        """
        visit = self._entry.enter(call)
        address = self._sessions.address(call)
        check(await run_script(visit, scripts.CHECK, *address))
        await websocket.accept()
        async with self._entry.use(visit.sandbox):
            await self._pass_on(websocket, visit, address)

    async def _pass_on(self, websocket: WebSocket, visit: Visit, address: tuple[str, str, str]) -> None:
        command: GuestCommand | None = None
        try:
            command = await visit.open_script(scripts.FOLLOW, *address)
            command.end_input()
            await race(websocket, _send(websocket, command))
        except EmberboxError as error:
            await close(websocket, _GOING_AWAY, str(error))
        else:
            await close(websocket)
        finally:
            if command is not None:
                command.close()


async def _send(websocket: WebSocket, command: GuestCommand) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        while (received := await command.read()) is not None:
            which, data = received
            await websocket.send_bytes((ERR if which == STDERR else OUT) + data)
