"""When the application of an image is ready for the snapshot, where no /ready hook says so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from emberbox.guest.agent import Agent
from emberbox.guest.protocol import Command
from emberbox.machine.guest import Guest
from emberbox.model.errors import BuildError, GuestError
from emberbox.time_limits import limit_s

SETTLE_TIMEOUT_S: Final = limit_s(20.0)
COMMAND_TIMEOUT_S: Final = limit_s(300.0)
_SETTLE_POLL_S: Final = 0.1
_COMMAND_POLL_S: Final = 0.25
_REST_S: Final = 0.4
_REST_SHARE: Final = 0.2  # of one processor; an emulated guest that only keeps time uses a few hundredths
_SAID_MAX: Final = 500


async def wait_succeeds(agent: Agent, line: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """Run a line in the guest's shell, as the application's user, again and again until it succeeds.

    Raises:
        BuildError: it did not in time.
    """
    last = "it did not end"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                code, said = await _run(agent, line)
                if code == 0:
                    return
                last = f"it ended with {code}" + (f", and wrote: {said}" if said else "")
                await asyncio.sleep(_COMMAND_POLL_S)
    except TimeoutError:
        raise BuildError(
            "CONTAINER_BUILD_FAILED",
            f"the ready command did not succeed within {timeout_s:g} s; {last}. "
            "Look at what the application wrote, and try the command in its image",
        ) from None


async def _run(agent: Agent, line: str) -> tuple[int, str]:
    """Return the exit code, and the end of what was written."""
    command = await agent.open_command(Command(("/bin/sh", "-c", line)))
    try:
        command.end_input()
        said = b""
        while (received := await command.read()) is not None:
            said = (said + received[1])[-_SAID_MAX:]
        return command.exit_code, said.decode(errors="replace").strip()
    finally:
        command.close()


async def wait_settled(guest: Guest, ports: tuple[int, ...], say: Callable[[str], None]) -> None:
    """Without a /ready hook a snapshot could catch the application half started: wait for a port, and then for rest.

    An application goes on after it has begun to listen: it imports, fills caches, warms up. Whatever it has not done by
    the time of the snapshot, every launch does anew.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while not await _listens(guest, ports):
        if time.monotonic() > deadline:
            names = ", ".join(map(str, ports))
            say(f"NOTE: after {SETTLE_TIMEOUT_S:g} s nothing listens on port {names}; the snapshot is taken anyway")
            return
        await asyncio.sleep(_SETTLE_POLL_S)
    if not await rests(guest, deadline):
        say(f"NOTE: the application is still at work after {SETTLE_TIMEOUT_S:g} s; the snapshot is taken anyway")


async def rests(guest: Guest, deadline: float) -> bool:
    """Wait until the guest needs little of a processor; False when it still does at the deadline."""
    while time.monotonic() < deadline:
        before = guest.cpu_seconds()
        await asyncio.sleep(_REST_S)
        if guest.cpu_seconds() - before < _REST_SHARE * _REST_S:
            return True
    return False


async def _listens(guest: Guest, ports: tuple[int, ...]) -> bool:
    for port in ports:
        with contextlib.suppress(ConnectionRefusedError, GuestError):
            (await guest.agent.open_stream(port, SETTLE_TIMEOUT_S)).close()
            return True
    return False
