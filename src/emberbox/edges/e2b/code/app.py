"""The requests to a sandbox's code interpreter: code runs as lines of JSON come back, contexts are made and ended."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from emberbox.background import Background
from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.envd.rpc import as_rpc_error
from emberbox.edges.sandboxes.call import Json, read_body
from emberbox.edges.sandboxes.contexts import DEFAULT, Context, Contexts
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.interpreter import (
    PROGRAMS,
    PYTHON,
    Code,
    Message,
    Program,
    end_interpreter,
    failure,
    interrupt,
    run_program,
    run_python,
)
from emberbox.edges.sandboxes.visit import Visit
from emberbox.machine.base import GuestCommand
from emberbox.model.errors import EmberboxError
from emberbox.model.sandbox_names import TOKEN_HEADER
from emberbox.model.sandboxes import Sandbox

log = logging.getLogger(__name__)


_KINDS: Final[Mapping[str, str]] = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "application/vnd.emberbox.chart+json": "chart",
}
"""The members of a result by MIME type."""
_PARSED: Final = ("json", "chart")


class CodeInterpreter:
    """Answers them.

    Args:
        door: opens commands in sandboxes.
        tokens: what opens sandboxes.
        program: the interpreter's text; None where this server has none.
    """

    def __init__(self, door: SandboxDoor, tokens: SandboxTokens, program: Program | None) -> None:
        self._door = door
        self._tokens = tokens
        self._program = program
        self._background = Background()

    async def answer(self, sandbox: Sandbox, request: Request) -> Response:
        """Answer a request.

        Raises:
            Unreachable: the sandbox does not run.
        """
        try:
            if self._program is None:
                raise ApiError(501, "this server has no interpreter: install emberbox-sdk beside it (docs/e2b.md)")
            visit = Visit(sandbox, self._door)
            return await self._route(self._program, visit, request)
        except ApiError as error:
            return PlainTextResponse(error.message, error.status)

    async def _route(self, program: Program, visit: Visit, request: Request) -> Response:
        contexts = Contexts(program.directory)
        match (request.method, *request.url.path.strip("/").split("/")):
            case ("GET", "health"):
                await self._door.wake(visit.sandbox)
                return PlainTextResponse("OK")
            case ("POST", "execute"):
                self._check_right(visit.sandbox, request)
                code = await read_code(contexts, visit, await read_body(request))
                return StreamingResponse(self._lines(program, visit, code), media_type="application/x-ndjson")
            case ("GET", "contexts"):
                return JSONResponse([context.shown() for context in await contexts.list_all(visit)])
            case ("POST", "contexts"):
                body = await read_body(request)
                made = await contexts.create(visit, read_language(body), _text(body, "cwd"))
                return JSONResponse(made.shown())
            case ("DELETE", "contexts", name):
                if await contexts.remove(visit, name):
                    await end_interpreter(visit, program, name)
                return Response(status_code=204)
            case ("POST", "contexts", name, "restart"):
                context = await contexts.find(visit, name)
                if context.language == PYTHON:
                    await end_interpreter(visit, program, name)
                return Response(status_code=204)
        raise ApiError(404, f"{request.method} {request.url.path} is not offered here")

    def _check_right(self, sandbox: Sandbox, request: Request) -> None:
        """Code may do everything: it needs the token that commands need. SDKs send it with code, not with contexts."""
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._tokens.access(sandbox.id).encode()):
            raise ApiError(401, "the access token counts for nothing here: connect to the sandbox to get one")

    async def _lines(self, program: Program, visit: Visit, code: Code) -> AsyncIterator[bytes]:
        """What cannot go on is told as an error of the code's: the answer has begun already."""
        language = code.context.language
        if language == PYTHON:
            messages = run_python(visit, program, code, self._leave)
        else:
            messages = run_program(visit, language, code)
        try:
            async for message in messages:
                shown = show(message)
                if shown is not None:
                    yield json.dumps(shown).encode() + b"\n"
        except EmberboxError as error:
            yield json.dumps(failure(as_rpc_error(error).message, "", "SandboxError")).encode() + b"\n"
        finally:
            await messages.aclose()

    def _leave(self, command: GuestCommand) -> None:
        """Whoever waited for the code has gone, and may be gone from here before it is interrupted."""
        self._background.start(interrupt(command), "the interrupt of code in a sandbox")

    async def close(self) -> None:
        """Wait for nothing in sandboxes any more."""
        await self._background.close()


async def read_code(contexts: Contexts, visit: Visit, body: Json) -> Code:
    """Return what is to run, and where.

    Raises:
        ApiError: it is malformed, the language is none of those that there are, or there is no such context.
    """
    variables = body.get("env_vars") or {}
    if not isinstance(variables, dict) or not all(isinstance(item, str) for item in variables.values()):
        raise ApiError(400, "env_vars must be an object whose values are texts")
    name = _text(body, "context_id")
    context = await contexts.find(visit, name) if name else Context(DEFAULT, read_language(body), "")
    return Code(_text(body, "code"), context, variables)


def read_language(body: Json) -> str:
    """Return the language that a request names.

    Raises:
        ApiError: code of it cannot be run here.
    """
    language = _text(body, "language").lower() or PYTHON
    if language not in (PYTHON, *PROGRAMS):
        raise ApiError(400, f"language must be one of {', '.join((PYTHON, *PROGRAMS))}, not {language}")
    return language


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if value is not None and (not isinstance(value, str) or ("\0" in value and name != "code")):
        raise ApiError(400, f"{name} must be a text")
    return value or ""


def show(message: Message) -> Mapping[str, Any] | None:
    """Return what the interpreter tells as E2B's tells it; None for what is not told."""
    match message:
        case {"type": "stdout" | "stderr" as stream, "text": str(text)}:
            return {"type": stream, "text": text, "timestamp": time.time_ns()}
        case {"type": "error", "name": str(name), "value": str(value), "traceback": str(trace)}:
            return {"type": "error", "name": name, "value": value, "traceback": trace}
        case {"type": "result", "data": dict(data)}:
            return {"type": "result", "is_main_result": message.get("main") is True, **_show_forms(data)}
        case {"type": "done", "count": int(count)}:
            return {"type": "number_of_executions", "execution_count": count}
    return None


def _show_forms(data: Mapping[str, Any]) -> Json:
    shown: Json = {}
    for mime, form in data.items():
        name = _KINDS.get(mime)
        if name is None or not isinstance(form, str):
            if isinstance(form, str) and mime not in ("type", "is_main_result"):
                shown.setdefault("extra", {})[mime] = form
            continue
        shown[name] = _parse(form) if name in _PARSED else form
    return shown


def _parse(form: str) -> Any:  # Any: JSON
    try:
        return json.loads(form)
    except (ValueError, RecursionError):
        return None
