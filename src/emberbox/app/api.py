"""AWS's API at its port."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

from emberbox.control.access.guard import Access
from emberbox.edges.asgi import CLIENTS_KEEP_ALIVE_S, listen, listen_at
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.server import create_api
from emberbox.edges.connection_guard import GuardLimits
from emberbox.edges.forwarded import KEEP_ALIVE_S, Forwarded
from emberbox.settings import Settings

log = logging.getLogger(__name__)


async def serve_api(
    settings: Settings, handlers: Mapping[str, Mapping[str, Handler]], access: Access, behind: Path | None,
    running: contextlib.AsyncExitStack,
) -> str:  # fmt: skip
    """Serve the API; return its URL.

    Args:
        settings: see there.
        handlers: of all operations.
        access: who may do what.
        behind: a Unix socket at which the gateway asks for it, too.
        running: what ends with the server.

    Raises:
        HostError: the port is taken.
    """
    listener = listen(settings.api_host, settings.api_port, "EMBERBOX_API_PORT")
    app = create_api(handlers, access.find_credential, settings.region, guard=access)
    await running.enter_async_context(serve_asgi(app, listener, CLIENTS_KEEP_ALIVE_S, limits=GuardLimits()))
    if behind is not None:
        forwarded = running.enter_context(listen_at(behind))
        serving = serve_asgi(Forwarded(app), forwarded, KEEP_ALIVE_S, limits=GuardLimits())
        await running.enter_async_context(serving)
    url = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    log.info("the API is served at %s", url)
    return url
