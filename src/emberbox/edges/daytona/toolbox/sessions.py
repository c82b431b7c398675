"""Sessions: shells whose directory and variables stay from one command to the next."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.edges.daytona import errors
from emberbox.edges.daytona.toolbox import session_scripts as scripts
from emberbox.edges.daytona.toolbox.process import OUTPUT_BYTES_MAX
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.scripts import Done, check_started, gather, run_script
from emberbox.edges.sandboxes.visit import Visit

DIRECTORY: Final = "/tmp/.emberbox-sessions-%d"  # noqa: S108 - in the guest; the scripts see whose it is
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ENTRYPOINT: Final = "entrypoint"
_MEANINGS: Final = {
    scripts.FOREIGN: (500, "sessions cannot be kept: their directory belongs to another user of the sandbox", ""),
    scripts.SESSION_THERE: (409, "there is a session of this name already", ""),
    scripts.NO_SESSION: (404, "there is no such session", errors.PROCESS_NOT_FOUND),
    scripts.NO_COMMAND: (404, "the session has no such command", errors.PROCESS_NOT_FOUND),
    scripts.ENDED: (410, "the session's shell has ended; delete the session, and create another", errors.SESSION_ENDED),
    scripts.NO_INPUT: (400, "the command takes no input: run it with run_async=True", ""),
    scripts.COMPLETED: (410, "the command has ended already", errors.COMMAND_COMPLETED),
}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a command has written, and its exit code; None where it has not ended."""

    exit_code: int | None
    output: str
    errors: str


@dataclass(slots=True)
class _Session:
    name: str
    commands: list[Json] = field(default_factory=list)

    def shown(self) -> Json:
        return {"sessionId": self.name, "commands": self.commands}


class Sessions:
    """Answers requests for sessions.

    Args:
        directory: where they are in guests; a `%d` in it is the user's number.
    """

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory

    async def create(self, visit: Visit, call: Call) -> Response:
        """`POST /process/session`."""
        name = check_name(call.text("sessionId"), "sessionId")
        arguments = (self._directory, name, scripts.SHELL)
        command = await visit.open_script(scripts.CREATE, *arguments, with_variables=True)
        check(await gather(command))
        return Response(status_code=201)

    async def list_all(self, visit: Visit, call: Call) -> Response:  # noqa: ARG002 - the interface of deeds
        """`GET /process/session`."""
        return JSONResponse([session.shown() for session in await self._list(visit, "")])

    async def get(self, visit: Visit, call: Call) -> Response:
        """`GET /process/session/{name}`."""
        return JSONResponse((await self._find(visit, call)).shown())

    async def delete(self, visit: Visit, call: Call) -> Response:
        """`DELETE /process/session/{name}`: what runs in it is killed."""
        check(await run_script(visit, scripts.DELETE, self._directory, _name_of(call, "session_id")))
        return Response(status_code=204)

    async def execute(self, visit: Visit, call: Call) -> Response:
        """`POST /process/session/{name}/exec`: one command after another, waited for unless that is not wanted."""
        session, text = _name_of(call, "session_id"), call.text("command")
        if "\0" in text:
            raise ApiError(400, "command must have no zero bytes")
        is_async = call.truth("runAsync") or call.truth("async")
        name = uuid.uuid4().hex
        arguments = (self._directory, session, name)
        takes_input = "in" if is_async else ""
        check(await run_script(visit, scripts.BEGIN, *arguments, takes_input, given=text.encode()))
        if is_async:
            return JSONResponse({"cmdId": name}, 202)
        done = await gather(await visit.open_script(scripts.WAIT, *arguments), None, OUTPUT_BYTES_MAX, turn=visit.turn)
        heard = _read_heard(done)
        return JSONResponse({"cmdId": name, "exitCode": heard.exit_code, **_show_heard(heard)})

    async def get_command(self, visit: Visit, call: Call) -> Response:
        """`GET /process/session/{name}/command/{id}`."""
        name = _name_of(call, "command_id")
        for command in (await self._find(visit, call)).commands:
            if command["id"] == name:
                return JSONResponse(command)
        raise ApiError(*_MEANINGS[scripts.NO_COMMAND])

    async def get_logs(self, visit: Visit, call: Call) -> Response:
        """`GET /process/session/{name}/command/{id}/logs`."""
        command = await visit.open_script(scripts.TELL, *self.address(call))
        return JSONResponse(
            _show_heard(_read_heard(await gather(command, bytes_max=OUTPUT_BYTES_MAX, turn=visit.turn)))
        )

    async def send_input(self, visit: Visit, call: Call) -> Response:
        """`POST /process/session/{name}/command/{id}/input`."""
        data = call.body.get("data")
        if not isinstance(data, str):
            raise ApiError(400, "data must be a text")
        check(await run_script(visit, scripts.INPUT, *self.address(call), given=data.encode()))
        return Response(status_code=204)

    def address(self, call: Call) -> tuple[str, str, str]:
        """Return what the scripts take: the directory, the session's name and the command's."""
        return (self._directory, _name_of(call, "session_id"), _name_of(call, "command_id"))

    async def _find(self, visit: Visit, call: Call) -> _Session:
        found = await self._list(visit, _name_of(call, "session_id"))
        if not found:
            raise ApiError(*_MEANINGS[scripts.NO_SESSION])
        return found[0]

    async def _list(self, visit: Visit, name: str) -> list[_Session]:
        done = await run_script(visit, scripts.LIST, self._directory, name)
        check(done)
        return read_sessions(done.output)


def read_sessions(listed: bytes) -> list[_Session]:
    """Return the sessions that the script has listed."""
    words = iter(word.decode(errors="replace") for word in listed.split(b"\0"))
    found: list[_Session] = []
    for kind in words:
        if kind == "session":
            found.append(_Session(next(words, "")))
        elif kind == "command" and found:
            name, code, text = next(words, ""), next(words, "").strip(), next(words, "")
            command: Json = {"id": name, "command": text}
            found[-1].commands.append({**command, "exitCode": int(code)} if code.isdecimal() else command)
    return found


def _read_heard(done: Done) -> Heard:
    """Return what a script has told of a command.

    Raises:
        ApiError: there is none, or the script failed.
    """
    check(done)
    code, size, rest = done.output.split(b"\n", 2)
    length = int(size)
    output, told = rest[:length], rest[length:]
    exit_code = int(code) if code.isdigit() else None
    return Heard(exit_code, output.decode(errors="replace"), told.decode(errors="replace"))


def _show_heard(heard: Heard) -> Json:
    return {"output": heard.output + heard.errors, "stdout": heard.output, "stderr": heard.errors}


def check(done: Done) -> None:
    """Refuse what a script could not do.

    Raises:
        ApiError: it failed.
    """
    if done.exit_code in _MEANINGS:
        raise ApiError(*_MEANINGS[done.exit_code])
    check_started(done)
    if done.exit_code:
        raise ApiError(500, done.errors or f"the sandbox could not keep the session ({done.exit_code})")


def check_name(text: str, field_name: str) -> str:
    """Return a name that is one.

    Raises:
        ApiError: it is none.
    """
    if not _NAME.fullmatch(text) or text == _ENTRYPOINT:
        raise ApiError(400, f"{field_name} must be of the form {_NAME.pattern}, and not {_ENTRYPOINT}")
    return text


def _name_of(call: Call, parameter: str) -> str:
    """Return a name in the path; what can be none is not there."""
    text = str(call.request.path_params[parameter])
    if not _NAME.fullmatch(text):
        missing = scripts.NO_SESSION if parameter == "session_id" else scripts.NO_COMMAND
        raise ApiError(*_MEANINGS[missing])
    return text
