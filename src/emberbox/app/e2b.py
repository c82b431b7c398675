"""E2B's API at its port, where the operator wants it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from importlib import resources
from typing import Final

from emberbox.app.objects import ObjectStorage, connect_as
from emberbox.background import Background, every
from emberbox.control.assembly import Control
from emberbox.control.sandboxes.assembly import Templates, make_templates
from emberbox.control.sandboxes.sandbox_logs import SandboxLogs
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.control.sandboxes.uploads import UploadLimits, Uploads
from emberbox.edges.asgi import listen
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.connection_guard import GuardLimits
from emberbox.edges.e2b.app import E2bEdge, Offer
from emberbox.edges.e2b.code.interpreter import Program
from emberbox.settings import Settings
from emberbox.store.logs import LogStore

log = logging.getLogger(__name__)

_KEEP_ALIVE_S: Final = 75
_HOUSEKEEPING_S: Final = 60.0
_UPLOAD_MAX_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class E2bGround:
    """What it stands on beside the services.

    Args:
        objects: where the files of template builds are.
        logs: the lines of builds and sandboxes.
    """

    objects: ObjectStorage
    logs: LogStore


async def serve_e2b(
    settings: Settings, control: Control, ground: E2bGround, running: contextlib.AsyncExitStack
) -> dict[str, str]:
    """Serve it; return what `runtime/endpoints.json` holds of it: nothing where it is not wanted.

    Raises:
        HostError: the port is taken.
    """
    if settings.e2b == "off":
        return {}
    listener = listen(settings.api_host, settings.e2b_port, "EMBERBOX_E2B_PORT")
    templates = _make_templates(settings, control, ground)
    running.push_async_callback(templates.builds.close)
    edge = E2bEdge(
        Offer(
            sandboxes=control.sandboxes,
            templates=templates,
            logs=SandboxLogs(control.sandboxes.images, ground.logs),
            tokens=SandboxTokens(settings.home / "secrets" / "sandboxes.key"),
            guard=control.access,
            region=settings.region,
            program=_find_program(),
            domain=settings.e2b_domain or f"{settings.domain}:{listener.getsockname()[1]}",
        )
    )
    running.push_async_callback(edge.close)
    background = Background()
    running.push_async_callback(background.close)
    background.start(every(_HOUSEKEEPING_S, edge.forget_ended), "the housekeeping of E2B's API")
    limits = GuardLimits(request_s=_UPLOAD_MAX_S)
    await running.enter_async_context(serve_asgi(edge, listener, _KEEP_ALIVE_S, limits=limits))
    url = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    log.info("E2B's API is served at %s", url)
    return {"e2b_url": url}


def _make_templates(settings: Settings, control: Control, ground: E2bGround) -> Templates:
    limits = UploadLimits(settings.artifact_max_bytes, settings.artifact_max_unpacked_bytes)
    uploads = Uploads(connect_as(ground.objects, settings.region), settings.home / "builds", limits)
    return make_templates(control.sandboxes, control.images, control.versions, ground.logs, uploads)


def _find_program() -> Program | None:
    """Return the interpreter of the Python SDK as text; None where the SDK is not installed beside the server."""
    try:
        files = resources.files("emberbox_sdk")
        return Program(files.joinpath("bridge.py").read_text(), files.joinpath("kernel.py").read_text())
    except (ModuleNotFoundError, FileNotFoundError):
        log.warning("emberbox-sdk is not installed: E2B's API is served without its code interpreter")
        return None
