"""The MCP server: tools, and the two ways to speak to it."""

from __future__ import annotations

import hmac
from importlib import metadata
from typing import Any, Final

from mcp.server.mcpserver import MCPServer

from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk.mcp.tools import Tools

INSTRUCTIONS: Final = """\
Sandboxes are isolated Linux machines (microVMs) in which you may run any command and any code. Create one, keep its id,
and use it for everything that belongs together: files, installed packages and variables of run_code stay. Before
something risky take a checkpoint, or fork the sandbox and try it in the copy. Terminate what you no longer need.
"""
UNAUTHORISED: Final = 401
MIXED: Final = {"run_code"}
"""Tools that answer with text and pictures, of which there is no schema."""

Scope = dict[str, Any]


def create_server(client: AsyncClient) -> MCPServer[Any]:
    """Make the server.

    Args:
        client: the Emberbox server whose sandboxes it serves.
    """
    server: MCPServer[Any] = MCPServer(
        name="emberbox",
        title="Emberbox sandboxes",
        instructions=INSTRUCTIONS,
        version=metadata.version("emberbox-sdk"),
        log_level="WARNING",
    )
    for name, tool in Tools(client).all().items():
        server.add_tool(tool, name=name, structured_output=False if name in MIXED else None)
    return server


class TokenGuard:
    """An ASGI application that lets only requests with a token through: whoever may ask has the server's rights.

    Args:
        app: what is guarded.
        token: what the header Authorization must have after `Bearer `.
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer 401, or pass on."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] != "http" or hmac.compare_digest(given, self._wanted):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": UNAUTHORISED, "headers": headers})
        await send({"type": "http.response.body", "body": b"send the token that `emberbox mcp --http` printed\n"})


async def serve_stdio(client: AsyncClient) -> None:
    """Serve the process that has started this one, over standard input and output, until it goes."""
    async with client:
        await create_server(client).run_stdio_async()


async def serve_http(client: AsyncClient, host: str, port: int, token: str) -> None:
    """Serve clients over HTTP, at `/mcp`, until a signal ends it.

    Args:
        client: the Emberbox server.
        host: address to listen at.
        port: port to listen at.
        token: what clients must send as `Authorization: Bearer`.
    """
    import uvicorn

    async with client:
        app = create_server(client).streamable_http_app(host=host)
        config = uvicorn.Config(TokenGuard(app, token), host=host, port=port, log_level="warning")
        await uvicorn.Server(config).serve()
