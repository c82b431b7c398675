"""The console at its port, where the operator wants it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from emberbox.control.assembly import Control
from emberbox.control.microvms.endpoint import EndpointDirectory
from emberbox.edges.asgi import CLIENTS_KEEP_ALIVE_S, listen
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.aws.inside import InsideCalls
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.connection_guard import UPLOAD_LIMITS
from emberbox.edges.console.app import MESSAGE_BYTES_MAX, create_console
from emberbox.edges.console.assets import Assets
from emberbox.edges.console.attempts import Attempts
from emberbox.edges.console.parts import Parts
from emberbox.edges.console.sessions import Sessions
from emberbox.edges.gateway.data_plane.app import create_data_plane
from emberbox.edges.gateway.judge.authoriser import MICROVM_HEADER
from emberbox.settings import Settings
from emberbox.store.changes import Changes

log = logging.getLogger(__name__)


async def serve_console(
    settings: Settings, control: Control, handlers: Mapping[str, Mapping[str, Handler]], directory: EndpointDirectory,
    changes: Changes, running: contextlib.AsyncExitStack,
) -> dict[str, str]:  # fmt: skip
    """Serve it; return what `runtime/endpoints.json` holds of it: nothing where it is not wanted.

    Raises:
        HostError: the port is taken.
    """
    if settings.console == "off":
        return {}
    listener = listen(settings.api_host, settings.console_port, "EMBERBOX_CONSOLE_PORT")
    parts = make_parts(settings.region, settings.console_url, control, handlers, directory, changes)
    app = create_console(parts)
    serving = serve_asgi(
        app, listener, CLIENTS_KEEP_ALIVE_S, limits=UPLOAD_LIMITS,
        websocket_message_bytes=MESSAGE_BYTES_MAX,
    )  # fmt: skip
    await running.enter_async_context(serving)
    own = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    log.info("the console is served at %s", own)
    return {"console_url": settings.console_url or own, "console_listener": own}


def make_parts(
    region: str, url: str, control: Control, handlers: Mapping[str, Mapping[str, Handler]],
    directory: EndpointDirectory, changes: Changes,
) -> Parts:  # fmt: skip
    """Make what the console stands on.

    Args:
        region: the region played.
        url: how people reach the console, where it is not what they type.
        control: the services.
        handlers: of all operations.
        directory: finds the endpoints of microVMs.
        changes: says which rows have changed.
    """
    access = control.access
    return Parts(
        calls=InsideCalls(handlers, access, region),
        sessions=Sessions(access),
        attempts=Attempts(),
        record=access.record,
        assets=Assets(),
        changes=changes,
        microvms=control.microvms,
        logs=control.logs,
        spending=control.spending,
        runners=control.runners,
        directory=directory,
        data_plane=_InMicrovms(create_data_plane(directory)),
        region=region,
        url=url,
    )


class _InMicrovms:
    """Makes what serves shells and files of one microVM, as the gateway's authoriser would name it."""

    def __init__(self, data_plane: ASGIApp) -> None:
        self._data_plane = data_plane

    def __call__(self, microvm_id: str) -> ASGIApp:
        named = (MICROVM_HEADER.encode(), microvm_id.encode())

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await self._data_plane({**scope, "headers": [*scope["headers"], named]}, receive, send)

        return serve
