"""The gateway in front of microVMs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import urlsplit

from emberbox.app.objects import ObjectStorage
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.sandboxes.gate import SandboxGate
from emberbox.edges.gateway.https import HttpsSettings
from emberbox.edges.gateway.proxy.admissions import THREADS, Admissions
from emberbox.edges.gateway.server import Gateway, GatewaySettings, start_gateway
from emberbox.edges.gateway.tls.certificates import Certificates
from emberbox.edges.gateway.tls.own_certificate import load_own_certificate
from emberbox.edges.gateway.watch import Watch
from emberbox.model.arns import endpoint_host
from emberbox.settings import Settings
from emberbox.spec.aws_names import FLAG


def open_admissions(settings: Settings, running: contextlib.AsyncExitStack) -> Admissions:
    """Revoke what an earlier server's Envoy may let pass, and keep what this one's may."""
    directory = _directory(settings)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    admissions = Admissions(directory / "admissions")
    running.callback(admissions.close)
    return admissions


async def serve_endpoints(
    settings: Settings, watch: Watch, keys: TokenKeys, objects: ObjectStorage, gate: SandboxGate | None,
    running: contextlib.AsyncExitStack,
) -> Gateway:  # fmt: skip
    """Start the gateway.

    Raises:
        HostError: it cannot serve.
    """
    chosen = GatewaySettings(
        directory=_directory(settings),
        region=settings.region,
        domain=settings.domain,
        address=settings.gateway_host,
        port=settings.gateway_port,
        concurrency=min(os.cpu_count() or 1, THREADS),
        own_certificate=_own_certificate(settings, gate),
        https=_second_port(settings, objects),
    )
    return await running.enter_async_context(start_gateway(chosen, watch, keys, gate))


def describe_gateway(settings: Settings, gateway: Gateway) -> dict[str, str | int]:
    """Return what `runtime/endpoints.json` holds of it."""
    return {
        "gateway": f"{settings.gateway_host}:{gateway.port}",
        "https_port": gateway.https_port,
        "ca_bundle": str(gateway.authority_path),
    }


def _second_port(settings: Settings, objects: ObjectStorage) -> HttpsSettings:
    if settings.https_port == settings.gateway_port:
        return HttpsSettings()
    parts = urlsplit(objects.url)
    s3 = (str(parts.hostname), parts.port or 80) if objects.is_embedded else None
    return HttpsSettings(settings.https_port, s3, settings.home / FLAG)


def _directory(settings: Settings) -> Path:
    return settings.home / "runtime" / "gateway"


def _own_certificate(settings: Settings, gate: SandboxGate | None) -> Certificates | None:
    if not settings.tls_certificate:
        return None
    authority = Path(settings.tls_authority) if settings.tls_authority else None
    names = [endpoint_host("*", settings.region, settings.domain)]
    names += [] if gate is None else [f"*.{gate.domain}"]
    return load_own_certificate(Path(settings.tls_certificate), Path(settings.tls_key), authority, *names)
