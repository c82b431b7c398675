"""The start of a process that a client goes on hearing."""

from __future__ import annotations

import asyncio
from typing import Final

from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.processes import Config, Process
from emberbox.edges.sandboxes.scripts import CANNOT_EXECUTE, RESOLVE, TIMEOUT_S, Done, check_started
from emberbox.edges.sandboxes.visit import Visit
from emberbox.guest.streams import STDERR, GuestCommand
from emberbox.machine.base import Command

_START: Final = f"""
{RESOLVE}
d=$1; shift
if [ -n "$d" ]; then
    at "$d"
    cd -- "$p" || exit {CANNOT_EXECUTE}
fi
if [ "$1" = /bin/bash ] && ! command -v /bin/bash >/dev/null; then shift; set -- /bin/sh "$@"; fi
echo "$$"
exec "$@"
"""
"""Tells the number that the process has in its container, and becomes it. E2B's SDKs ask for bash always."""

_PID_DIGITS_MAX: Final = 12


async def start_process(visit: Visit, config: Config) -> tuple[Process, bytes]:
    """Start a process; return it, and what came behind its number.

    Raises:
        CallError: it cannot be started.
    """
    arguments = ("/bin/sh", "-c", visit.prelude + _START, "sh", config.cwd, config.cmd, *config.args)
    environment = tuple({**visit.environment, **config.envs}.items())
    command = await visit.open_command(
        Command(arguments, environment=environment, user=visit.user, terminal=config.size is not None)
    )
    try:
        if config.size is not None:
            command.resize(*config.size)
        elif not config.has_input:
            command.end_input()
        async with asyncio.timeout(TIMEOUT_S):
            pid, first = await _read_pid(command)
    except TimeoutError:
        command.close()
        raise CallError(Code.DEADLINE_EXCEEDED, f"the command did not start within {TIMEOUT_S:g} s") from None
    except BaseException:
        command.close()
        raise
    return Process(pid, config, command), first


async def _read_pid(command: GuestCommand) -> tuple[int, bytes]:
    said, errors = b"", b""
    while (received := await command.read()) is not None:
        which, data = received
        if which == STDERR:
            errors = (errors + data)[:2000]
            continue
        said += data
        line, end, rest = said.partition(b"\n")
        if end and line.strip().isdigit():
            return int(line), rest
        if end or len(line) > _PID_DIGITS_MAX:
            raise CallError(Code.INVALID_ARGUMENT, said[:2000].decode(errors="replace").strip())
    told = (errors or said).decode(errors="replace").strip()
    check_started(Done(command.exit_code, b"", told))
    raise CallError(Code.INVALID_ARGUMENT, told or f"the command could not be started ({command.exit_code})")
