"""What E2B's daemon answers at port 49983 of a sandbox: health, figures, variables, files, calls."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.envd.connect import error_answer
from emberbox.edges.e2b.envd.files import get_file, post_files
from emberbox.edges.e2b.envd.filesystem import FilesystemService
from emberbox.edges.e2b.envd.process import ProcessService
from emberbox.edges.e2b.envd.rpc import Calls, answer_call, as_rpc_error
from emberbox.edges.e2b.envd.signatures import check_signature
from emberbox.edges.e2b.envd.visit import NobodyError, read_user
from emberbox.edges.e2b.envd.watchers import Watchers
from emberbox.edges.e2b.errors import error_response
from emberbox.edges.sandboxes.errors import ApiError, CallError
from emberbox.edges.sandboxes.figures import measure
from emberbox.edges.sandboxes.processes import Processes
from emberbox.edges.sandboxes.visit import TURNS, Visit
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import EmberboxError
from emberbox.model.sandbox_names import TOKEN_HEADER
from emberbox.model.sandboxes import Sandbox

NOT_FOUND: Final = 502
_SIGNED: Final = {("GET", "/files"): "read", ("POST", "/files"): "write"}

Plain = Callable[[Visit, Request], Awaitable[Response]]


class Envd:
    """Answers requests to sandboxes' daemons; whoever made it closes it.

    Args:
        door: opens commands in sandboxes.
        tokens: what opens sandboxes.
    """

    def __init__(self, door: SandboxDoor, tokens: SandboxTokens) -> None:
        self._door = door
        self._tokens = tokens
        self._processes = Processes()
        self._watchers = Watchers()
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._calls = collect_calls(self._processes, self._watchers)
        self._plain: dict[tuple[str, str], Plain] = {
            ("GET", "/files"): get_file,
            ("POST", "/files"): post_files,
            ("GET", "/metrics"): _get_figures,
            ("GET", "/envs"): _get_variables,
        }

    async def answer(self, sandbox: Sandbox, request: Request) -> Response:
        """Answer a request."""
        try:
            return await self._answer(sandbox, request)
        except CallError as error:
            return error_answer(error)
        except ApiError as error:
            return error_response(error)
        except Unreachable:
            return not_found(sandbox.id)
        except EmberboxError as error:
            return error_answer(as_rpc_error(error))

    async def _answer(self, sandbox: Sandbox, request: Request) -> Response:
        key = (request.method, request.url.path)
        if key == ("GET", "/health"):
            await self._door.wake(sandbox)
            return Response(status_code=204)
        self._check_right(sandbox, request)
        turn = self._turns.setdefault(sandbox.id, asyncio.Semaphore(TURNS))
        visit = Visit(sandbox, self._door, _user_of(request) or sandbox.terms.user or None, turn=turn)
        if key in self._plain:
            return await self._plain[key](visit, request)
        answer = await answer_call(self._calls, request, visit) if request.method == "POST" else None
        return answer or error_response(ApiError(404, f"{request.method} {request.url.path} is not offered here"))

    def _check_right(self, sandbox: Sandbox, request: Request) -> None:
        """Let who has the access token do everything, and who has a signed URL what it says."""
        token, key = self._tokens.access(sandbox.id), (request.method, request.url.path)
        if "signature" in request.query_params and key in _SIGNED:
            check_signature(request.query_params, _SIGNED[key], token)
        elif not hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), token.encode()):
            raise ApiError(401, "the access token counts for nothing here: connect to the sandbox to get one")

    async def forget_ended(self) -> None:
        """Let go of what belongs to sandboxes that have ended."""
        for sandbox_id in {*self._processes.sandboxes(), *self._watchers.sandboxes()}:
            if await asyncio.to_thread(self._door.find, sandbox_id) is None:
                self._processes.forget_sandbox(sandbox_id)
                await self._watchers.forget_sandbox(sandbox_id)

    async def close(self) -> None:
        """Listen to nothing any more."""
        await self._processes.close()
        await self._watchers.close()


def _user_of(request: Request) -> str | None:
    try:
        return read_user(request) or request.query_params.get("username") or None
    except NobodyError as error:
        raise ApiError(401, str(error)) from error


async def _get_figures(visit: Visit, request: Request) -> Response:  # noqa: ARG001 - the interface of handlers
    figures = await measure(visit)
    return JSONResponse(
        {
            "ts": figures.measured_at,
            "cpu_count": figures.cpu_count,
            "cpu_used_pct": figures.cpu_used_percent,
            "mem_total": figures.memory_total,
            "mem_used": figures.memory_used,
            "mem_cache": figures.memory_cache,
            "disk_total": figures.disk_total,
            "disk_used": figures.disk_used,
        }
    )


async def _get_variables(visit: Visit, request: Request) -> Response:  # noqa: ARG001 - the interface of handlers
    return JSONResponse(visit.environment)


def collect_calls(processes: Processes, watchers: Watchers) -> Calls:
    """Return the calls that are answered."""
    process, filesystem = ProcessService(processes), FilesystemService(watchers)
    unary = {
        "process.Process/List": process.list_all,
        "process.Process/SendInput": process.send_input,
        "process.Process/CloseStdin": process.close_stdin,
        "process.Process/SendSignal": process.send_signal,
        "process.Process/Update": process.update,
        "filesystem.Filesystem/Stat": filesystem.stat,
        "filesystem.Filesystem/ListDir": filesystem.list_directory,
        "filesystem.Filesystem/MakeDir": filesystem.make_directory,
        "filesystem.Filesystem/Move": filesystem.move,
        "filesystem.Filesystem/Remove": filesystem.remove,
        "filesystem.Filesystem/CreateWatcher": filesystem.create_watcher,
        "filesystem.Filesystem/GetWatcherEvents": filesystem.get_events,
        "filesystem.Filesystem/RemoveWatcher": filesystem.remove_watcher,
    }
    server_streams = {
        "process.Process/Start": process.start,
        "process.Process/Connect": process.connect,
        "filesystem.Filesystem/WatchDir": filesystem.watch,
    }
    client_streams = {"process.Process/StreamInput": process.stream_input}
    return Calls(
        {f"/{name}": call for name, call in unary.items()},
        {f"/{name}": call for name, call in server_streams.items()},
        {f"/{name}": call for name, call in client_streams.items()},
    )


def not_found(sandbox_id: str) -> Response:
    """Return the answer for a sandbox that does not run, which SDKs know by its words."""
    message = "The sandbox was not found"
    return JSONResponse({"sandboxId": sandbox_id, "message": message, "code": NOT_FOUND}, NOT_FOUND)
