"""AWS's API at its port."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Mapping
from typing import Final

from emberbox.control.access.guard import Access
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.server import create_api
from emberbox.edges.connection_guard import GuardLimits
from emberbox.model.errors import HostError
from emberbox.settings import Settings

log = logging.getLogger(__name__)

API_KEEP_ALIVE_S: Final = 75


async def serve_api(
    settings: Settings, handlers: Mapping[str, Mapping[str, Handler]], access: Access,
    running: contextlib.AsyncExitStack,
) -> str:  # fmt: skip
    """Serve the API; return its URL.

    Raises:
        HostError: the port is taken.
    """
    listener = _listen(settings.api_host, settings.api_port)
    app = create_api(handlers, access.find_credential, settings.region, guard=access)
    await running.enter_async_context(serve_asgi(app, listener, API_KEEP_ALIVE_S, limits=GuardLimits()))
    url = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    log.info("the API is served at %s", url)
    return url


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits for a delayed ACK
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise HostError(f"port {port} of {host} is taken ({error.strerror}); set EMBERBOX_API_PORT") from error
    return listener
