"""The running gateway: certificates, the authoriser and the data plane on Unix sockets, Envoy in front of them.

Everything lives in one private directory and ends with the block that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from emberbox.asgi import serve
from emberbox.control.tokens import TokenKeys
from emberbox.gateway.authoriser import Authoriser, Directory
from emberbox.gateway.certificates import Certificates, endpoint_names, ensure_certificates
from emberbox.gateway.commands import Commands
from emberbox.gateway.data_plane import MESSAGE_BYTES_MAX, create_data_plane
from emberbox.gateway.envoy import EnvoySettings, envoy_args, validate, write_bootstrap
from emberbox.host.ports import keep_port
from emberbox.host.supervisor import Helper, find_running, supervise
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What the gateway depends on.

    Args:
        directory: its own directory, for certificates, sockets, configuration and logs; made when missing.
        region: the region in endpoint names.
        domain: what endpoint names end with.
        address: the IP address to listen on.
        port: the port to listen on; 0 takes a free one.
        concurrency: Envoy's worker threads.
        authorise_timeout_s: how long a request may be held while its microVM resumes.
    """

    directory: Path
    region: str
    domain: str
    address: str = "127.0.0.1"
    port: int = 0
    concurrency: int = 1
    authorise_timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves.

    Args:
        port: where it listens.
        authority_path: the certificate (PEM) that clients must trust.
        envoy_log_path: Envoy's warnings.
    """

    port: int
    authority_path: Path
    envoy_log_path: Path


class GatewayDirectory(Directory, Commands, Protocol):
    """What the gateway must know about microVMs."""


@contextlib.asynccontextmanager
async def start_gateway(
    settings: GatewaySettings, directory: GatewayDirectory, keys: TokenKeys
) -> AsyncIterator[Gateway]:
    """Serve endpoints for as long as the block lasts.

    Args:
        settings: see there.
        directory: knows the microVMs, and runs commands in them.
        keys: open the tokens.

    Raises:
        HostError: Envoy is missing, refuses its configuration, or does not listen within 30 s (the port is
            taken).
    """
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.directory.chmod(0o700)  # who reaches the authoriser's socket could ask about tokens
    certificates = ensure_certificates(settings.directory / "tls", endpoint_names(settings.region, settings.domain))
    port = settings.port or keep_port(
        settings.directory / "port", settings.address, held=find_running("envoy", settings.directory) is not None
    )
    socket_path, data_plane_path = settings.directory / "authoriser.sock", settings.directory / "data-plane.sock"
    config_path = settings.directory / "envoy.json"
    write_bootstrap(_envoy_settings(settings, certificates, port, socket_path, data_plane_path), config_path)
    await validate(config_path)
    app = Authoriser(directory, keys, region=settings.region, domain=settings.domain)
    helper = Helper(
        name="envoy",
        arguments=envoy_args(config_path, settings.concurrency),
        directory=settings.directory,
        files=(config_path, certificates.certificate_path, certificates.key_path),
        is_ready=_accepts_tls(settings.address, port, certificates.authority_path),
    )
    # The authoriser outlives Envoy's idle connections, so that only Envoy closes them.
    with _listen(socket_path) as listener, _listen(data_plane_path) as data_plane_listener:
        data_plane = serve(
            create_data_plane(directory), data_plane_listener, 3600, websocket_message_bytes=MESSAGE_BYTES_MAX
        )
        async with serve(app, listener, keep_alive_s=3600), data_plane, supervise(helper):
            log.info("endpoints are served at %s, port %d", settings.address, port)
            yield Gateway(port, certificates.authority_path, helper.log_path)


def _envoy_settings(
    settings: GatewaySettings, certificates: Certificates, port: int, socket_path: Path, data_plane_path: Path
) -> EnvoySettings:
    return EnvoySettings(
        address=settings.address,
        port=port,
        certificate_path=certificates.certificate_path,
        key_path=certificates.key_path,
        authoriser_path=socket_path,
        data_plane_path=data_plane_path,
        authorise_timeout_s=settings.authorise_timeout_s,
    )


@contextlib.contextmanager
def _listen(socket_path: Path) -> Iterator[socket.socket]:
    """Bind a socket of ours; its path goes with the block."""
    socket_path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(str(socket_path))
        except OSError as error:
            raise HostError(f"the gateway cannot listen on {socket_path}: {error}") from error
        try:
            yield listener
        finally:
            socket_path.unlink(missing_ok=True)


def _accepts_tls(address: str, port: int, authority_path: Path) -> Callable[[], Awaitable[bool]]:
    """Make a check that our own certificate answers at the port, and not another server's."""
    context = ssl.create_default_context(cafile=str(authority_path))
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  # compared, not bound

    async def accepts() -> bool:
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(target, port, ssl=context, server_hostname="localhost")
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return accepts
