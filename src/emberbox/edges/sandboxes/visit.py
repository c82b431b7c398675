"""One request that may act in a sandbox: which sandbox, as whom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.sandboxes import Sandbox

TURNS: Final = 8


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that may act in a sandbox.

    Args:
        sandbox: which.
        door: opens commands there.
        user: whose rights count; None for the image's user.
        prelude: what each script of this client's begins with, such as where paths that are not absolute begin.
        turn: held while an answer is gathered, so that one sandbox takes no more of the server's memory than that.
    """

    sandbox: Sandbox
    door: SandboxDoor
    user: str | None = None
    prelude: str = ""
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS))

    @property
    def environment(self) -> dict[str, str]:
        """The sandbox's own variables."""
        return dict(self.sandbox.terms.environment or {})

    async def open_command(self, command: Command) -> GuestCommand:
        """Start a command.

        Raises:
            Unreachable: the sandbox does not run.
            GuestError: the command cannot be started.
        """
        return await self.door.open_command(self.sandbox, command)

    async def open_script(self, text: str, *arguments: str, with_variables: bool = False) -> GuestCommand:
        """Start a script of `sh`.

        Args:
            text: the script.
            arguments: from $1 on.
            with_variables: it has the sandbox's own variables.

        Raises:
            Unreachable: the sandbox does not run.
            GuestError: it cannot be started.
        """
        asked = ("/bin/sh", "-c", self.prelude + text, "sh", *arguments)
        environment = tuple(self.environment.items()) if with_variables else ()
        return await self.open_command(Command(asked, environment=environment, user=self.user))
