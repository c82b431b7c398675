"""The API behind the gateway, where TLS ends: who sends a request is said by a header that the gateway alone can set.

Served at a Unix socket that nobody but this server's own user may reach; what listens at a port never looks at it.
"""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_ALIVE_S: Final = 3600
"""What is served so keeps idle connections so long that only the gateway closes them."""

SOURCE_HEADER: Final = "x-emberbox-source"
_SOURCE: Final = SOURCE_HEADER.encode()


class Forwarded:
    """An ASGI application that knows whom a request comes from.

    Args:
        app: the API.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as coming from the address in the header, over TLS."""
        if scope["type"] == "http":
            source = next((value for name, value in scope["headers"] if name == _SOURCE), b"")
            kept = [(name, value) for name, value in scope["headers"] if name != _SOURCE]
            scope = {**scope, "scheme": "https", "headers": kept, "client": (source.decode("latin-1"), 0)}
        await self._app(scope, receive, send)
