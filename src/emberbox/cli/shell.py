"""`emberbox shell`: a terminal in a microVM."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from emberbox.cli import terminal
from emberbox.cli.context import Server, get_server
from emberbox.cli.progress import waiting
from emberbox.cli.sandboxes import explained
from emberbox.settings import load


def shell(
    microvm: Annotated[str, typer.Argument(metavar="MICROVM", help="A microVM's id; run with SHELL_INGRESS.")],
) -> None:
    """Open a shell in a microVM, as the application's user and in its directory."""
    asyncio.run(_converse(get_server(load().home), microvm))


async def _converse(server: Server, microvm: str) -> None:
    from emberbox_sdk import AsyncSandbox
    from emberbox_sdk.commands import PTY_PROGRAM

    with explained(server, microvm):
        async with await AsyncSandbox.connect(microvm, check=False, config=server.config()) as sandbox:
            with waiting(f"reaching {microvm}"):  # which may have to be resumed first
                command = await sandbox.start(PTY_PROGRAM, terminal=True)
            with terminal.raw_terminal(), terminal.follow_size(command):
                terminal.pass_input(command, lambda: command.send(b"\x04"))
                await terminal.show(command)
