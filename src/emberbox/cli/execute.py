"""`emberbox exec`: a command in a microVM, with its own output streams and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emberbox.cli import terminal
from emberbox.cli.context import Server, get_server
from emberbox.cli.progress import waiting
from emberbox.cli.sandboxes import explained
from emberbox.model.errors import HostError
from emberbox.settings import load

if TYPE_CHECKING:
    from emberbox_sdk import AsyncCommand

PASSED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


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
    program, variables = read_command(command), read_variables(env or [])
    options = {"cwd": workdir, "env": variables, "user": user, "terminal": tty}
    server = get_server(load().home)
    raise typer.Exit(asyncio.run(_run(server, microvm, program, options, interactive=interactive)))


def read_command(command: list[str]) -> list[str]:
    """Return program and arguments, of what stands behind the microVM.

    Raises:
        HostError: there is no command.
    """
    arguments = command[1:] if command[:1] == ["--"] else command
    if not arguments:
        raise HostError("which command? emberbox exec MICROVM -- COMMAND")
    return arguments


def read_variables(given: list[str]) -> dict[str, str]:
    """Return variables by their names.

    Raises:
        HostError: one has no name or no value.
    """
    variables = dict(variable.partition("=")[::2] for variable in given)
    if not all(variables) or not all("=" in variable for variable in given):
        raise HostError("a variable is given as NAME=VALUE")
    return variables


async def _run(server: Server, microvm: str, program: list[str], options: dict[str, Any], *, interactive: bool) -> int:
    """Return the exit code; `options` are those of `start` (`AsyncSandbox`)."""
    from emberbox_sdk import AsyncSandbox

    with explained(server, microvm):
        async with await AsyncSandbox.connect(microvm, check=False, config=server.config()) as sandbox:
            with waiting(f"reaching {microvm}"):  # which may have to be resumed first
                command = await sandbox.start(program, **options)
            with _terminal_or_signals(command, tty=options["terminal"]):
                if interactive:
                    terminal.pass_input(command, command.close_stdin)
                elif not options["terminal"]:
                    await command.close_stdin()
                return await terminal.show(command)


@contextlib.contextmanager
def _terminal_or_signals(command: AsyncCommand, *, tty: bool) -> Iterator[None]:
    """With a terminal, keys make the signals over there; without, the signals that come here are passed on."""
    with contextlib.ExitStack() as stack:
        if tty:
            stack.enter_context(terminal.raw_terminal())
            stack.enter_context(terminal.follow_size(command))
        else:
            stack.enter_context(_signals_passed(command))
        yield


@contextlib.contextmanager
def _signals_passed(command: AsyncCommand) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in PASSED_SIGNALS:
        loop.add_signal_handler(number, _pass_signal, command, number)
    try:
        yield
    finally:
        for number in PASSED_SIGNALS:
            loop.remove_signal_handler(number)


def _pass_signal(command: AsyncCommand, number: int) -> None:
    terminal.send_soon(command.kill(number))
