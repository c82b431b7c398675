"""Code whose variables stay: contexts over HTTP, and code over a WebSocket.

The interpreter is the one that E2B's edge has too; contexts are kept in the guest, so both see the same ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from emberbox.background import Background
from emberbox.edges.daytona.toolbox.entry import Entry
from emberbox.edges.daytona.toolbox.process import TIMEOUT_MAX_S, read_path_member
from emberbox.edges.daytona.toolbox.sockets import close, race
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.contexts import DEFAULT, Context, Contexts
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.interpreter import Code, Message, Program, end_interpreter, failure, interrupt, run_python
from emberbox.edges.sandboxes.visit import Visit
from emberbox.machine.base import GuestCommand
from emberbox.model.errors import EmberboxError

TIMEOUT_S: Final = 600
"""Daytona's own default."""

_PYTHON: Final = "python"
_TIMED_OUT: Final = 4008
_REFUSED: Final = 1008
_ASKED_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Asked:
    code: Code
    timeout_s: float | None


class Interpreting:
    """Answers requests for code and contexts; whoever made it closes it.

    Args:
        entry: lets requests into sandboxes.
        program: the interpreter's text; None where this server has none.
    """

    def __init__(self, entry: Entry, program: Program | None) -> None:
        self._entry = entry
        self._program = program
        self._background = Background()

    async def create_context(self, visit: Visit, call: Call) -> Response:
        """`POST /process/interpreter/context`."""
        if (call.body.get("language") or _PYTHON) != _PYTHON:
            raise ApiError(400, "language must be python")
        program = self._find_program()
        context = await Contexts(program.directory).create(visit, _PYTHON, read_path_member(call, "cwd"))
        return JSONResponse(_show(context))

    async def list_contexts(self, visit: Visit, call: Call) -> Response:  # noqa: ARG002 - the interface of deeds
        """`GET /process/interpreter/context`: those that have been created."""
        found = await Contexts(self._find_program().directory).list_all(visit)
        return JSONResponse({"contexts": [_show(context) for context in found if context.id != DEFAULT]})

    async def delete_context(self, visit: Visit, call: Call) -> Response:
        """`DELETE /process/interpreter/context/{id}`."""
        program, name = self._find_program(), str(call.request.path_params["context_id"])
        if await Contexts(program.directory).remove(visit, name):
            await end_interpreter(visit, program, name)
        return JSONResponse({"message": "the context was deleted"})

    async def execute(self, websocket: WebSocket, call: Call) -> None:
        """`GET /process/interpreter/execute`: the first message says what is to run.

        Raises:
            EmberboxError: it may not; the WebSocket is not accepted yet.
        """
        visit, program = self._entry.enter(call), self._find_program()
        await visit.door.wake(visit.sandbox)
        await websocket.accept()
        async with self._entry.use(visit.sandbox):
            try:
                asked = await _read(websocket, visit, Contexts(program.directory))
            except WebSocketDisconnect:
                return
            except (EmberboxError, TimeoutError) as error:
                await close(websocket, _REFUSED, str(error) or "nothing was asked for in time")
                return
            await self._run(websocket, visit, program, asked)

    async def _run(self, websocket: WebSocket, visit: Visit, program: Program, asked: _Asked) -> None:
        try:
            async with asyncio.timeout(asked.timeout_s):
                await race(websocket, self._send(websocket, visit, program, asked.code))
        except TimeoutError:
            await close(websocket, _TIMED_OUT, "the code was interrupted at its timeout")
        else:
            await close(websocket)

    async def _send(self, websocket: WebSocket, visit: Visit, program: Program, code: Code) -> None:
        """Tell what code writes, and how it fails. Code that nobody waits for any more is interrupted."""
        with contextlib.suppress(WebSocketDisconnect):
            async with contextlib.aclosing(run_python(visit, program, code, self._leave)) as messages:
                try:
                    async for message in messages:
                        await _tell(websocket, message)
                except EmberboxError as error:
                    await _tell(websocket, failure(str(error), "", "SandboxError"))

    def _leave(self, command: GuestCommand) -> None:
        self._background.start(interrupt(command), "the interrupt of code in a sandbox")

    def _find_program(self) -> Program:
        if self._program is None:
            raise ApiError(501, "this server has no interpreter: install emberbox-sdk beside it (docs/daytona.md)")
        return self._program

    async def close(self) -> None:
        """Wait for nothing in sandboxes any more."""
        await self._background.close()


async def _read(websocket: WebSocket, visit: Visit, contexts: Contexts) -> _Asked:
    """Return what is to run.

    Raises:
        ApiError: it is malformed, or there is no such context.
        TimeoutError: nothing came.
    """
    async with asyncio.timeout(_ASKED_WITHIN_S):
        text = await websocket.receive_text()
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        raise ApiError(400, "the first message must be a JSON object with code")
    variables, timeout_s, name = body.get("envs") or {}, body.get("timeout", TIMEOUT_S), body.get("contextId")
    if not isinstance(variables, dict) or not all(isinstance(item, str) for item in variables.values()):
        raise ApiError(400, "envs must be an object whose values are texts")
    if not isinstance(timeout_s, int) or not 0 <= timeout_s <= TIMEOUT_MAX_S:
        raise ApiError(400, f"timeout must be 0 to {TIMEOUT_MAX_S} seconds")
    context = await contexts.find(visit, str(name)) if name else Context(DEFAULT, _PYTHON, "")
    return _Asked(Code(body["code"], context, variables), timeout_s or None)


async def _tell(websocket: WebSocket, message: Message) -> None:
    """Results that are no text have no place in Daytona's protocol."""
    match message:
        case {"type": "stdout" | "stderr" as kind, "text": str(text)}:
            await websocket.send_json({"type": kind, "text": text})
        case {"type": "error", "name": str(name), "value": str(value), "traceback": str(trace)}:
            await websocket.send_json({"type": "error", "name": name, "value": value, "traceback": trace})


def _show(context: Context) -> Json:
    moment = datetime.now(UTC).isoformat()  # of this answer: when it was created is not kept
    return {**context.shown(), "active": True, "createdAt": moment}
