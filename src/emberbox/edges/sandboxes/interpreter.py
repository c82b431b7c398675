"""Code in a sandbox, by the interpreter that the Python SDK brings, or by a program that reads it.

Of the interpreter this server has nothing but the text of its two files: the one that passes lines, and the one that
runs code, which outlives its clients (sdk/src/emberbox_sdk: bridge.py, kernel.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from emberbox.edges.sandboxes.contexts import Context
from emberbox.edges.sandboxes.scripts import NO_SUCH_PROGRAM
from emberbox.edges.sandboxes.visit import Visit
from emberbox.guest.streams import STDERR
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.errors import EmberboxError
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

Message = Mapping[str, Any]  # Any: what a guest says is read member by member

LINE_MAX: Final = 32 << 20
"""One result: a picture, in Base64, is one line."""

PYTHON: Final = "python"
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "bash": ("bash", "-s"),
    "sh": ("sh", "-s"),
    "javascript": ("node", "-"),
    "js": ("node", "-"),
}
"""What runs code of other languages: a process for each piece, to which nothing is left of the one before."""

INTERRUPT_S: Final = limit_s(5.0)
_ERRORS_MAX: Final = 4000
_NO_PYTHON: Final = (
    "the image has no python3: take the template code-interpreter-v1 (`emberbox e2b-templates build "
    "code-interpreter-v1`), or install it in the image"
)


@dataclass(frozen=True, slots=True)
class Program:
    """The text of the interpreter.

    Args:
        bridge: passes lines to it, and starts it where it does not run.
        kernel: runs code.
        directory: has its sockets in the guest; a `%d` in it is the user's number.
    """

    bridge: str
    kernel: str
    directory: str = "/tmp/.emberbox-code-%d"  # noqa: S108 - in the guest; bridge.py sees whose it is


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of code.

    Args:
        text: it.
        context: where it runs.
        environment: variables for it alone.
    """

    text: str
    context: Context
    environment: Mapping[str, str]


async def run_python(
    visit: Visit, program: Program, code: Code, leave: Callable[[GuestCommand], None]
) -> AsyncGenerator[Message]:
    """Run Python, and yield what the interpreter tells.

    Args:
        visit: where.
        program: the interpreter.
        code: what is to run.
        leave: closes the connection in time, where the caller goes away before the end; the code is to be interrupted.

    Raises:
        Unreachable: the sandbox does not run.
        GuestError: it stopped meanwhile.
    """
    context = code.context
    arguments = ("python3", "-S", "-c", program.bridge, context.id, context.cwd, program.kernel)
    environment = tuple(visit.environment.items())
    command = await visit.open_command(Command(arguments, environment=environment, user=visit.user, directory="/"))
    is_done = False
    try:
        asked = {"type": "run", "code": code.text, "env": dict(code.environment)}
        await command.write(json.dumps(asked).encode() + b"\n")
        async for message in _read_messages(command):
            is_done = message.get("type") == "done"
            yield message
            if is_done:
                break
    finally:
        if is_done:
            command.close()
        else:
            leave(command)


async def run_program(visit: Visit, language: str, code: Code) -> AsyncGenerator[Message]:
    """Run code of another language by a program that reads it, and yield what the interpreter would tell.

    Raises:
        Unreachable: the sandbox does not run.
        GuestError: it stopped meanwhile.
    """
    line = 'cd "$0" 2>/dev/null; exec "$@"'
    arguments = ("/bin/sh", "-c", line, code.context.cwd or "/", *PROGRAMS[language])
    environment = tuple({**visit.environment, **code.environment}.items())
    command = await visit.open_command(Command(arguments, environment=environment, user=visit.user))
    errors = ""
    try:
        await command.write(code.text.encode())
        command.end_input()
        while (received := await command.read()) is not None:
            which, data = received
            text = data.decode(errors="replace")
            errors = (errors + text)[-_ERRORS_MAX:] if which == STDERR else errors
            yield {"type": "stderr" if which == STDERR else "stdout", "text": text}
        if command.exit_code:
            yield failure(f"exit status {command.exit_code}", errors, "ExitError")
    finally:
        command.close()
    yield {"type": "done", "count": 1}


async def end_interpreter(visit: Visit, program: Program, name: str) -> None:
    """End an interpreter.

    Raises:
        Unreachable: the sandbox does not run.
        GuestError: it stopped meanwhile.
    """
    arguments = ("python3", "-S", "-c", program.bridge, name, "/", program.kernel)
    command = await visit.open_command(Command(arguments, user=visit.user, directory="/"))
    try:
        await command.write(b'{"type": "end"}\n')
        async for _ in _read_messages(command):
            pass
    finally:
        command.close()


async def _read_messages(command: GuestCommand) -> AsyncIterator[Message]:
    """Yield what the interpreter tells, and where it ends before it is done, an error in its place."""
    held, errors = bytearray(), bytearray()
    while (received := await command.read()) is not None:
        which, data = received
        if which == STDERR:
            errors += data[: _ERRORS_MAX - len(errors)]
            continue
        held += data
        *lines, rest = held.split(b"\n")
        held = bytearray(rest)
        for line in lines:
            yield _parse(bytes(line))
        if len(held) > LINE_MAX:
            yield failure(f"a result has more than {LINE_MAX} bytes", "", "TooLarge")
            return
    told = errors.decode(errors="replace").strip()
    if command.exit_code == NO_SUCH_PROGRAM:
        yield failure(_NO_PYTHON, told, "NoInterpreter")
    else:
        yield failure(told or "the interpreter has ended; the next code begins a new one", told, "InterpreterEnded")


def _parse(line: bytes) -> Message:
    """Read a line of the guest's, which may be anything."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    return message if isinstance(message, dict) else {}


async def interrupt(command: GuestCommand) -> None:
    """Interrupt code that nobody waits for any more, and close the connection."""
    try:
        async with asyncio.timeout(INTERRUPT_S):
            await command.write(b'{"type": "interrupt"}\n')
            command.end_input()
            while await command.read() is not None:
                pass
    except (EmberboxError, TimeoutError) as error:
        log.debug("code could not be interrupted: %s", error)
    finally:
        command.close()


def failure(value: str, trace: str, name: str) -> Message:
    """Return what the interpreter would tell of an error; without a traceback the words are it."""
    return {"type": "error", "name": name, "value": value, "traceback": trace or value}
