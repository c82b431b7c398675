"""Commands that are waited for, and code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from emberbox.edges.daytona.errors import EXECUTION_TIMEOUT
from emberbox.edges.sandboxes.call import Call
from emberbox.edges.sandboxes.errors import ApiError, CallError, Code
from emberbox.edges.sandboxes.scripts import CANNOT_EXECUTE, RESOLVE, Done, check_started, gather
from emberbox.edges.sandboxes.visit import Visit
from emberbox.machine.base import Command

OUTPUT_BYTES_MAX: Final = 8 << 20
TIMEOUT_MAX_S: Final = 86_400
_EXECUTE: Final = f"""{RESOLVE}
exec 2>&1
if [ -n "$1" ]; then
    at "$1"
    cd -- "$p" || exit {CANNOT_EXECUTE}
fi
shift
if [ "$1" = bash ] && ! command -v bash >/dev/null; then shift; set -- sh "$@"; fi
exec "$@"
"""
"""Output and error output are one, in the order in which they are written, as Daytona tells them."""

_LANGUAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "python": ("python3", "-u", "-"),
    "javascript": ("node", "-"),
}
"""What runs code, which it reads from its input."""


async def execute(visit: Visit, call: Call) -> Response:
    """`POST /process/execute`."""
    arguments = ("bash", "-c", call.text("command"))
    done = await _run(visit, call, read_path_member(call, "cwd"), arguments)
    return JSONResponse({"exitCode": done.exit_code, "result": done.output.decode(errors="replace")})


async def run_code(visit: Visit, call: Call) -> Response:
    """`POST /process/code-run`: in a process of its own."""
    language = call.text("language").lower()
    if language not in _LANGUAGES:
        raise ApiError(400, f"language must be one of {', '.join(_LANGUAGES)}, not {language}")
    argv: Any = call.body.get("argv") or []
    if not isinstance(argv, list) or not all(isinstance(item, str) and "\0" not in item for item in argv):
        raise ApiError(400, "argv must be a list of texts")
    done = await _run(visit, call, "", (*_LANGUAGES[language], *argv), call.text("code").encode())
    result = done.output.decode(errors="replace")
    return JSONResponse({"exitCode": done.exit_code, "result": result, "artifacts": {"charts": []}})


async def _run(visit: Visit, call: Call, cwd: str, arguments: tuple[str, ...], given: bytes = b"") -> Done:
    timeout_s = _read_timeout(call)
    variables = {**visit.environment, **call.texts("envs")}
    if any("\0" in text for text in (*arguments, *variables, *variables.values())):
        raise ApiError(400, "a command and its variables have no zero bytes")
    asked = ("/bin/sh", "-c", visit.prelude + _EXECUTE, "sh", cwd, *arguments)
    command = await visit.open_command(Command(asked, environment=tuple(variables.items()), user=visit.user))
    try:
        done = await gather(command, timeout_s, OUTPUT_BYTES_MAX, given=given, turn=visit.turn)
    except CallError as error:
        if error.code is not Code.DEADLINE_EXCEEDED:
            raise
        raise ApiError(408, f"the command was killed after {timeout_s} s, its timeout", EXECUTION_TIMEOUT) from error
    check_started(done)
    return done


def _read_timeout(call: Call) -> int | None:
    """Return how long a command may take, in seconds; None where it may take for ever."""
    if not call.body.get("timeout"):
        return None
    timeout_s = call.number("timeout", 0)
    if not 1 <= timeout_s <= TIMEOUT_MAX_S:
        raise ApiError(400, f"timeout must be 1 to {TIMEOUT_MAX_S} seconds, not {timeout_s}")
    return timeout_s


def read_path_member(call: Call, name: str) -> str:
    """Return a path; an empty one where there is none.

    Raises:
        ApiError: it is none.
    """
    value = call.body.get(name) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ApiError(400, f"{name} must be a path")
    return value
