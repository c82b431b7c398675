"""Short scripts in a sandbox: `sh` with arguments, its output, and how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from emberbox.edges.e2b.envd.connect import Code, RpcError
from emberbox.edges.e2b.envd.visit import Visit
from emberbox.guest.streams import STDERR
from emberbox.machine.base import Command, GuestCommand
from emberbox.time_limits import limit_s

OUTPUT_BYTES_MAX: Final = 4 << 20
TIMEOUT_S: Final = limit_s(60.0)
_ERRORS_MAX: Final = 2000

CANNOT_EXECUTE, NO_SUCH_PROGRAM = 126, 127

RESOLVE: Final = """
at() {
    case $1 in
        /*) p=$1 ;;
        '~') p=${HOME:-/} ;;
        '~/'*) p=${HOME:-/}/${1#'~/'} ;;
        *) p=${HOME:-/}/$1 ;;
    esac
}
"""
"""`at PATH` sets `p` to what it means: what is not absolute is taken from the user's home, as E2B does it."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a script did.

    Attributes:
        exit_code: of the script.
        output: what it wrote.
        errors: the beginning of what it wrote to its error output.
    """

    exit_code: int
    output: bytes
    errors: str


def script(text: str, *arguments: str, user: str | None) -> Command:
    """Return the command that is a script."""
    return Command(("/bin/sh", "-c", text, "sh", *arguments), user=user)


async def run_script(visit: Visit, text: str, *arguments: str) -> Done:
    """Run a script to its end, in its turn.

    Raises:
        RpcError: it took too long, wrote too much, or there is no such user.
        Unreachable: the sandbox does not run.
        GuestError: the sandbox stopped meanwhile.
    """
    async with visit.turn:
        done = await _gather(await visit.open_command(script(text, *arguments, user=visit.user)))
    check_started(done)
    return done


async def _gather(command: GuestCommand) -> Done:
    output, errors = bytearray(), bytearray()
    try:
        command.end_input()
        async with asyncio.timeout(TIMEOUT_S):
            while (received := await command.read()) is not None:
                which, data = received
                if which == STDERR:
                    errors += data[: _ERRORS_MAX - len(errors)]
                    continue
                output += data
                if len(output) > OUTPUT_BYTES_MAX:
                    raise RpcError(Code.RESOURCE_EXHAUSTED, "there is too much to list; ask for less at once")
        return Done(command.exit_code, bytes(output), errors.decode(errors="replace").strip())
    except TimeoutError:
        raise RpcError(Code.DEADLINE_EXCEEDED, f"the sandbox did not answer within {TIMEOUT_S:g} s") from None
    finally:
        command.close()


def check_started(done: Done) -> None:
    """Refuse what could not be started at all.

    Raises:
        RpcError: there is no such user, or no shell.
    """
    if done.exit_code == CANNOT_EXECUTE and "no such user" in done.errors:
        raise RpcError(Code.UNAUTHENTICATED, done.errors)
    if done.exit_code == NO_SUCH_PROGRAM and not done.output:
        raise RpcError(Code.UNAVAILABLE, f"{done.errors}: the image needs sh, find and stat")
