"""What E2B's daemon answers at port 49983 of a sandbox: health, calls, files."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.envd.connect import RpcError
from emberbox.edges.e2b.envd.process import ProcessService
from emberbox.edges.e2b.envd.processes import Processes
from emberbox.edges.e2b.envd.rpc import Calls, answer_call, as_rpc_error
from emberbox.edges.e2b.envd.visit import TOKEN_HEADER, NobodyError, Visit, read_user
from emberbox.edges.e2b.errors import ApiError, error_response
from emberbox.model.endpoints import Unreachable
from emberbox.model.errors import EmberboxError, GuestError
from emberbox.model.sandboxes import Sandbox

NOT_FOUND: Final = 502

Plain = Callable[[Visit, Request], Awaitable[Response]]


class Envd:
    """Answers requests to a sandbox's daemon.

    Args:
        door: opens commands in sandboxes.
        tokens: what opens sandboxes.
        processes: those that clients have started.
    """

    def __init__(self, door: SandboxDoor, tokens: SandboxTokens, processes: Processes) -> None:
        self._door = door
        self._tokens = tokens
        self._calls = collect_calls(processes)
        self._plain: dict[tuple[str, str], Plain] = {}

    async def answer(self, sandbox: Sandbox, request: Request) -> Response:
        """Answer a request."""
        try:
            return await self._answer(sandbox, request)
        except RpcError as error:
            return error.response()
        except ApiError as error:
            return error_response(error)
        except Unreachable:
            return not_found(sandbox.id)
        except (GuestError, EmberboxError) as error:
            return as_rpc_error(error).response()

    async def _answer(self, sandbox: Sandbox, request: Request) -> Response:
        key = (request.method, request.url.path)
        if key == ("GET", "/health"):
            await self._door.wake(sandbox)
            return Response(status_code=204)
        self._check_token(sandbox, request)
        try:
            visit = Visit(sandbox, self._door, read_user(request))
        except NobodyError as error:
            raise ApiError(401, str(error)) from error
        if key in self._plain:
            return await self._plain[key](visit, request)
        answer = await answer_call(self._calls, request, visit) if request.method == "POST" else None
        return answer or error_response(ApiError(404, f"{request.method} {request.url.path} is not offered here"))

    def _check_token(self, sandbox: Sandbox, request: Request) -> None:
        if not hmac.compare_digest(request.headers.get(TOKEN_HEADER, ""), self._tokens.access(sandbox.id)):
            raise ApiError(401, "the access token counts for nothing here: connect to the sandbox to get one")


def collect_calls(processes: Processes) -> Calls:
    """Return the calls that are answered."""
    process = ProcessService(processes)
    unary = {
        "process.Process/List": process.list_all,
        "process.Process/SendInput": process.send_input,
        "process.Process/CloseStdin": process.close_stdin,
        "process.Process/SendSignal": process.send_signal,
        "process.Process/Update": process.update,
    }
    server_streams = {
        "process.Process/Start": process.start,
        "process.Process/Connect": process.connect,
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
