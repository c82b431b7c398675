"""Short scripts in a sandbox: `sh` with arguments, its output, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from typing import Final

from emberbox.edges.sandboxes.errors import CallError, Code
from emberbox.edges.sandboxes.visit import Visit
from emberbox.guest.streams import STDERR
from emberbox.machine.base import GuestCommand
from emberbox.model.errors import GuestError
from emberbox.time_limits import limit_s

OUTPUT_BYTES_MAX: Final = 4 << 20
TIMEOUT_S: Final = limit_s(60.0)
_FREE_BYTES: Final = 256 << 10
_ERRORS_MAX: Final = 2000

CANNOT_EXECUTE, NO_SUCH_PROGRAM = 126, 127

RESOLVE: Final = """
at() {
    case $1 in
        /*) p=$1 ;;
        '~') p=${HOME:-/} ;;
        '~/'*) p=${HOME:-/}/${1#'~/'} ;;
        *) p=${from:-${HOME:-/}}/$1 ;;
    esac
}
"""
"""`at PATH` sets `p` to what it means: what is not absolute is taken from the user's home, as E2B does it, or from
where a visit's prelude says.
"""

FROM_WORK_DIRECTORY: Final = 'from=$PWD; [ "$from" != / ] || from=/.\n'
"""A prelude: what is not absolute is taken from the image's directory."""


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


async def run_script(visit: Visit, text: str, *arguments: str, given: bytes = b"") -> Done:
    """Run a script to its end, in its turn.

    Args:
        visit: where.
        text: the script.
        arguments: from $1 on.
        given: its input.

    Raises:
        CallError: it took too long, wrote too much, or there is no such user.
        Unreachable: the sandbox does not run.
        GuestError: the sandbox stopped meanwhile.
    """
    async with visit.turn:
        done = await gather(await visit.open_script(text, *arguments), given=given)
    check_started(done)
    return done


async def gather(
    command: GuestCommand,
    timeout_s: float | None = TIMEOUT_S,
    bytes_max: int = OUTPUT_BYTES_MAX,
    *,
    given: bytes = b"",
    turn: asyncio.Semaphore | None = None,
) -> Done:
    """Wait for a command, and close it; one that takes too long is killed.

    Args:
        command: it.
        timeout_s: how long that may take; None is for ever.
        bytes_max: how much it may write.
        given: its input, which it is to read before it writes much.
        turn: held as soon as much is gathered; until then the command waits with what it writes.

    Raises:
        CallError: it took too long, or wrote too much.
        GuestError: the sandbox stopped meanwhile.
    """
    output, errors = bytearray(), bytearray()
    try:
        async with asyncio.timeout(timeout_s), contextlib.AsyncExitStack() as held:
            if given:
                with contextlib.suppress(GuestError):  # it has ended without reading all: how, is told below
                    await command.write(given)
            command.end_input()
            while (received := await command.read()) is not None:
                which, data = received
                if which == STDERR:
                    errors += data[: _ERRORS_MAX - len(errors)]
                    continue
                output += data
                if turn is not None and len(output) > _FREE_BYTES:
                    await held.enter_async_context(turn)
                    turn = None
                if len(output) > bytes_max:
                    raise CallError(Code.RESOURCE_EXHAUSTED, f"there are over {bytes_max} bytes; ask for less at once")
        return Done(command.exit_code, bytes(output), errors.decode(errors="replace").strip())
    except TimeoutError:
        command.signal(signal.SIGKILL)
        raise CallError(Code.DEADLINE_EXCEEDED, f"the sandbox did not answer within {timeout_s:g} s") from None
    finally:
        command.close()


def check_started(done: Done) -> None:
    """Refuse what could not be started at all.

    Raises:
        CallError: there is no such user, or no shell.
    """
    if done.exit_code == CANNOT_EXECUTE and "no such user" in done.errors:
        raise CallError(Code.UNAUTHENTICATED, done.errors)
    if done.exit_code == NO_SUCH_PROGRAM and not done.output:
        raise CallError(Code.UNAVAILABLE, f"{done.errors}: the image needs sh, find and stat")
