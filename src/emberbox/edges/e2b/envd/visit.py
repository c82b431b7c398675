"""One request to what runs in a sandbox: which sandbox, which port, as whom."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import HTTPConnection

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.errors import EmberboxError
from emberbox.model.sandbox_names import LAST_PORT, PORT_HEADER, SANDBOX_HEADER, Address, read_label
from emberbox.model.sandboxes import Sandbox

TURNS: Final = 8
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


def read_address(connection: HTTPConnection) -> Address | None:
    """Return which sandbox a request is for: by two headers, or by its host's first label; None where by neither."""
    sandbox_id, port = connection.headers.get(SANDBOX_HEADER), connection.headers.get(PORT_HEADER, "")
    if sandbox_id and _PORT.fullmatch(port) and int(port) <= LAST_PORT:
        return Address(sandbox_id, int(port))
    return read_label(connection.headers.get("host", "").partition(":")[0].lower().partition(".")[0])


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that may act in a sandbox.

    Args:
        sandbox: which.
        door: opens commands there.
        user: whose rights count; None for the image's user.
        turn: held while an answer is gathered, so that one sandbox takes no more of the server's memory than that.
    """

    sandbox: Sandbox
    door: SandboxDoor
    user: str | None = None
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


class NobodyError(EmberboxError):
    """A request that names its user in no way that is known."""


def read_user(connection: HTTPConnection) -> str | None:
    """Return the user that a request's `Authorization: Basic` names; None where there is none.

    Raises:
        NobodyError: it is malformed.
    """
    scheme, _, text = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(text, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise NobodyError("the Authorization header is malformed") from None
    return user or None
