"""`emberbox mcp`: sandboxes as tools for MCP clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from emberbox.cli.context import Server, get_server
from emberbox.model.errors import HostError
from emberbox.settings import load

if TYPE_CHECKING:
    from emberbox_sdk.config import Config


def mcp(
    http: Annotated[bool, typer.Option("--http", help="Over HTTP, at /mcp, in place of stdin and stdout.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8765,
) -> None:
    """Serve sandboxes as tools to an MCP client: commands, code, files, ports, suspend, fork, rollback."""
    server = get_server(load().home)
    try:
        from emberbox_sdk.errors import EmberboxError as SdkError
        from emberbox_sdk.mcp.main import serve
    except ImportError as error:
        raise HostError(
            f'{error.name} is missing; pip install "emberbox-sdk[mcp]", or use ./run emberbox mcp'
        ) from error
    try:
        serve(configuration(server), http=http, host=host, port=port)
    except SdkError as error:
        raise HostError(str(error)) from error


def configuration(server: Server) -> Config:
    """Return how the SDK reaches a server."""
    from emberbox_sdk.config import Config

    return Config(
        api_url=server.api_url,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        region=server.region,
        s3_url=server.s3_url,
        gateway=server.gateway,
        ca_bundle=server.ca_bundle,
        account_id=server.account_id,
    )
