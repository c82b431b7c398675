"""Daytona's API at its port, where the operator wants it."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from emberbox.app.home import sandbox_tokens
from emberbox.app.interpreter import find_program
from emberbox.control.assembly import Control
from emberbox.edges.asgi import CLIENTS_KEEP_ALIVE_S, listen
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.connection_guard import UPLOAD_LIMITS
from emberbox.edges.daytona.app import DaytonaEdge, Offer
from emberbox.settings import Settings

log = logging.getLogger(__name__)

_MESSAGE_BYTES_MAX: Final = 1 << 20


async def serve_daytona(settings: Settings, control: Control, running: contextlib.AsyncExitStack) -> dict[str, str]:
    """Serve it; return what `runtime/endpoints.json` holds of it: nothing where it is not wanted.

    Raises:
        HostError: the port is taken.
    """
    if settings.daytona == "off":
        return {}
    listener = listen(settings.api_host, settings.daytona_port, "EMBERBOX_DAYTONA_PORT")
    port = listener.getsockname()[1]
    edge = DaytonaEdge(
        Offer(
            sandboxes=control.sandboxes,
            tokens=sandbox_tokens(settings),
            guard=control.access,
            region=settings.region,
            domain=settings.daytona_domain or f"{settings.domain}:{port}",
            default_snapshot=settings.daytona_snapshot or "base",
            program=find_program(),
        )
    )
    running.push_async_callback(edge.close)
    serving = serve_asgi(
        edge, listener, CLIENTS_KEEP_ALIVE_S, limits=UPLOAD_LIMITS, websocket_message_bytes=_MESSAGE_BYTES_MAX
    )
    await running.enter_async_context(serving)
    url = f"http://{settings.api_host}:{port}/api"
    log.info("Daytona's API is served at %s", url)
    return {"daytona_url": url}
