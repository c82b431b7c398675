"""`emberbox exec`: a command in a microVM, with its own output streams and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from emberbox.cli import terminal
from emberbox.cli.context import get_server
from emberbox.cli.data_plane import EXEC_SUBPROTOCOL, DataPlane
from emberbox.cli.shell import check_closing
from emberbox.model.errors import HostError
from emberbox.settings import load

PASSED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_END = json.dumps({"type": "eof"})


def execute(
    microvm: Annotated[str, typer.Argument(metavar="MICROVM", help="A microVM's id; run with SHELL_INGRESS.")],
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="Program and arguments.")],
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Pass the standard input on.")] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal.")] = False,
    user: Annotated[str | None, typer.Option("--user", "-u", help="User or user:group; else the app's.")] = None,
    workdir: Annotated[str | None, typer.Option("--workdir", "-w", help="Directory; else the app's.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="A variable; repeatable.")] = None,
) -> None:
    """Run a command in a microVM, beside its application; the exit code is the command's."""
    request = make_request(command, tty=tty, user=user, workdir=workdir, env=env or [])
    plane = DataPlane(get_server(load().home), microvm)
    raise typer.Exit(asyncio.run(_run(plane, request, interactive=interactive)))


def make_request(
    command: list[str], *, tty: bool, user: str | None, workdir: str | None, env: list[str]
) -> dict[str, Any]:
    """Return the ExecRequest (edges/gateway/data_plane/openapi.json).

    Raises:
        HostError: there is no command, or a variable has no name.
    """
    arguments = command[1:] if command[:1] == ["--"] else command
    if not arguments:
        raise HostError("which command? emberbox exec MICROVM -- COMMAND")
    variables = dict(variable.partition("=")[::2] for variable in env)
    if not all(variables) or not all("=" in variable for variable in env):
        raise HostError("a variable is given as NAME=VALUE")
    request = {"command": arguments, "environmentVariables": variables, "terminal": tty}
    return request | {
        name: value for name, value in (("user", user), ("workingDirectory", workdir)) if value is not None
    }


async def _run(plane: DataPlane, request: dict[str, Any], *, interactive: bool) -> int:
    """Return the exit code."""
    async with plane.open_websocket(EXEC_SUBPROTOCOL) as websocket:
        await websocket.send(json.dumps(request))
        with _terminal_or_signals(websocket, tty=request["terminal"]):
            if interactive:
                terminal.pass_input(websocket.send, _END)
            elif not request["terminal"]:
                await websocket.send(_END)
            code = await _show(websocket)
    if code is None:
        check_closing(websocket)
        raise HostError("the command's end was not told")
    return code


@contextlib.contextmanager
def _terminal_or_signals(websocket: ClientConnection, *, tty: bool) -> Iterator[None]:
    """With a terminal, keys make the signals over there; without, the signals that come here are passed on."""
    with contextlib.ExitStack() as stack:
        if tty:
            stack.enter_context(terminal.raw_terminal())
            stack.enter_context(terminal.follow_size(websocket.send))
        else:
            stack.enter_context(_signals_passed(websocket))
        yield


@contextlib.contextmanager
def _signals_passed(websocket: ClientConnection) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in PASSED_SIGNALS:
        message = json.dumps({"type": "signal", "signal": int(number)})
        loop.add_signal_handler(number, terminal.send_soon, websocket.send, message)
    try:
        yield
    finally:
        for number in PASSED_SIGNALS:
            loop.remove_signal_handler(number)


async def _show(websocket: ClientConnection) -> int | None:
    """Write what the command writes; return its exit code, None when the connection broke before it was told."""
    code = None
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            if isinstance(message, bytes):
                terminal.write_all(terminal.STDERR if message[0] == terminal.STDERR else terminal.STDOUT, message[1:])
                continue
            content = json.loads(message)
            if content["type"] == "error":
                raise HostError(content["message"])
            code = int(content["exitCode"])
    return code
