"""E2B's API at its port, where the operator wants it."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from emberbox.app.home import sandbox_tokens
from emberbox.app.interpreter import find_program
from emberbox.app.objects import ObjectStorage, connect_as
from emberbox.background import Background, every
from emberbox.control.assembly import Control
from emberbox.control.sandboxes.assembly import Templates, make_templates
from emberbox.control.sandboxes.gate import SandboxGate
from emberbox.control.sandboxes.sandbox_logs import SandboxLogs
from emberbox.control.sandboxes.uploads import UploadLimits, Uploads
from emberbox.edges.asgi import CLIENTS_KEEP_ALIVE_S, listen, listen_at
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.connection_guard import UPLOAD_LIMITS
from emberbox.edges.e2b.app import E2bEdge, Offer
from emberbox.edges.forwarded import KEEP_ALIVE_S, Forwarded
from emberbox.edges.gateway.server import Gateway
from emberbox.model.endpoints import with_port
from emberbox.model.sandbox_names import read_domain
from emberbox.settings import Settings
from emberbox.store.logs import LogStore

log = logging.getLogger(__name__)

_HOUSEKEEPING_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class E2bGround:
    """What it stands on beside the services.

    Args:
        objects: where the files of template builds are.
        logs: the lines of builds and sandboxes.
        gateway: what is in front of sandboxes, where TLS ends.
    """

    objects: ObjectStorage
    logs: LogStore
    gateway: Gateway


def make_gate(settings: Settings, control: Control) -> SandboxGate | None:
    """Make what knows the names of sandboxes at the gateway; None where they have none."""
    domain = _gateway_domain(settings)
    if settings.e2b == "off" or not domain:
        return None
    return SandboxGate(control.sandboxes.door, sandbox_tokens(settings), domain)


def _gateway_domain(settings: Settings) -> str:
    return read_domain(settings.e2b_domain or f"e2b.{settings.domain}")


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
            tokens=sandbox_tokens(settings),
            guard=control.access,
            region=settings.region,
            program=find_program(),
            domain=settings.e2b_domain or f"{settings.domain}:{listener.getsockname()[1]}",
            tls_domain=_gateway_domain(settings) if ground.gateway.e2b_path else "",
        )
    )
    running.push_async_callback(edge.close)
    background = Background()
    running.push_async_callback(background.close)
    background.start(every(_HOUSEKEEPING_S, edge.forget_ended), "the housekeeping of E2B's API")
    await running.enter_async_context(serve_asgi(edge, listener, CLIENTS_KEEP_ALIVE_S, limits=UPLOAD_LIMITS))
    url = f"http://{settings.api_host}:{listener.getsockname()[1]}"
    log.info("E2B's API is served at %s", url)
    return {"e2b_url": url, **await _serve_behind(edge, settings, ground.gateway, running)}


async def _serve_behind(
    edge: E2bEdge, settings: Settings, gateway: Gateway, running: contextlib.AsyncExitStack
) -> dict[str, str]:
    """Serve it behind the gateway too, and return the domain that SDKs are told; nothing where there is none."""
    if gateway.e2b_path is None:
        return {}
    behind = running.enter_context(listen_at(gateway.e2b_path))
    await running.enter_async_context(serve_asgi(Forwarded(edge), behind, KEEP_ALIVE_S, limits=UPLOAD_LIMITS))
    domain = with_port(_gateway_domain(settings), gateway.endpoint_port)
    log.info("E2B's API is served at https://api.%s", domain)
    return {"e2b_domain": domain}


def _make_templates(settings: Settings, control: Control, ground: E2bGround) -> Templates:
    limits = UploadLimits(settings.artifact_max_bytes, settings.artifact_max_unpacked_bytes)
    uploads = Uploads(connect_as(ground.objects, settings.region), settings.home / "builds", limits)
    return make_templates(control.sandboxes, control.images, control.versions, ground.logs, uploads)
