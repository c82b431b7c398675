"""`emberbox mcp`: sandboxes as tools for MCP clients."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.context import get_server
from emberbox.model.errors import HostError
from emberbox.settings import load


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Over HTTP, at /mcp, in place of stdin and stdout.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8765,
) -> None:
    """Serve sandboxes as tools to an MCP client: commands, code, files, ports, suspend, fork, rollback."""
    server = get_server(load().home)
    try:
        from emberbox_sdk.mcp.main import serve
    except ImportError as error:
        raise HostError(
            f'{error.name} is missing; pip install "emberbox-sdk[mcp]", or use ./run emberbox mcp'
        ) from error
    serve(server.config(), http=http, host=host, port=port)
