"""Commands whose end is waited for: what becomes of input that they do not read."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from emberbox.edges.sandboxes.scripts import gather
from emberbox.machine.base import Command, GuestCommand
from support.local_guest import LocalCommand


async def test_a_command_that_ends_without_reading_tells_how(tmp_path: Path) -> None:
    command = await LocalCommand(Command(("/bin/sh", "-c", "echo said; exit 7")), tmp_path).start()
    try:
        done = await gather(cast("GuestCommand", command), given=bytes(4 << 20))
    finally:
        await command.end()
    assert (done.exit_code, done.output) == (7, b"said\n")
