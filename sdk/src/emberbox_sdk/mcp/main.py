"""`emberbox-mcp`: serves MCP clients with what `emberbox env` printed."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import sys

from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk.config import Config
from emberbox_sdk.errors import EmberboxError

TOKEN_VARIABLE = "EMBERBOX_MCP_TOKEN"  # noqa: S105 - the variable's name
HOST, PORT = "127.0.0.1", 8765


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="emberbox-mcp", description="Sandboxes as tools for MCP clients.")
    parser.add_argument("--http", action="store_true", help="over HTTP, at /mcp, in place of stdin and stdout")
    parser.add_argument("--host", default=HOST, help=f"address to listen at ({HOST})")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen at ({PORT})")
    arguments = parser.parse_args()
    try:
        serve(Config.from_environment(), http=arguments.http, host=arguments.host, port=arguments.port)
    except EmberboxError as error:
        sys.exit(f"error: {error}")


def serve(config: Config, *, http: bool, host: str, port: int) -> None:
    """Serve until the client goes, or with HTTP until a signal comes.

    Args:
        config: the Emberbox server.
        http: over HTTP in place of standard input and output.
        host: address to listen at.
        port: port to listen at.

    Raises:
        EmberboxError: the `mcp` package is missing.
    """
    try:
        from emberbox_sdk.mcp.server import serve_http, serve_stdio
    except ImportError as error:
        raise EmberboxError(f"{error.name} is missing", 'install it with pip install "emberbox-sdk[mcp]"') from error
    client = AsyncClient(config)
    with contextlib.suppress(KeyboardInterrupt):
        if not http:
            asyncio.run(serve_stdio(client))
            return
        token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(24)
        if TOKEN_VARIABLE not in os.environ:
            sys.stderr.write(f"clients send the header  Authorization: Bearer {token}\n")
        sys.stderr.write(f"serving MCP at http://{host}:{port}/mcp\n")
        asyncio.run(serve_http(client, host, port, token))


if __name__ == "__main__":
    main()
