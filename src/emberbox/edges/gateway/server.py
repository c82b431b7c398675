"""The running gateway: certificates, the authoriser and the data plane on Unix sockets, Envoy in front of them.

Everything lives in one private directory and ends with the block that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from emberbox.background import Background
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.edges.asgi import listen_at, serve
from emberbox.edges.gateway.data_plane.app import MESSAGE_BYTES_MAX, create_data_plane
from emberbox.edges.gateway.directory import SandboxNames
from emberbox.edges.gateway.https import HttpsListener, HttpsSettings, plan_https
from emberbox.edges.gateway.judge.authoriser import Authoriser
from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.proxy.envoy.bootstrap import envoy_args, validate, write_bootstrap
from emberbox.edges.gateway.proxy.envoy.settings import EnvoySettings
from emberbox.edges.gateway.proxy.traffic import read_reports
from emberbox.edges.gateway.tls.certificates import Certificates, endpoint_names, ensure_certificates
from emberbox.edges.gateway.watch import Watch
from emberbox.host.ports import keep_port
from emberbox.host.supervisor import Helper, find_running, supervise
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

_KEEP_ALIVE_S = 3600


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
        own_certificate: what to present; by default one of the local authority's.
        https: a second port.
    """

    directory: Path
    region: str
    domain: str
    address: str = "127.0.0.1"
    port: int = 0
    concurrency: int = 1
    authorise_timeout_s: float = limit_s(120.0)
    own_certificate: Certificates | None = None
    https: HttpsSettings = HttpsSettings()  # noqa: RUF009 - it is frozen


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that serves.

    Args:
        port: where it listens.
        authority_path: the certificate (PEM) that clients must trust.
        envoy_log_path: Envoy's warnings.
        https_port: the second port where it listens; 0 where there is none.
        api_path: where it expects the API, for AWS's names at the second port.
        e2b_path: where it expects E2B's API; None where it leads nobody there.
    """

    port: int
    authority_path: Path
    envoy_log_path: Path
    https_port: int = 0
    api_path: Path | None = None
    e2b_path: Path | None = None

    @property
    def endpoint_port(self) -> int:
        """The port that endpoints' names have."""
        return self.https_port or self.port


@contextlib.asynccontextmanager
async def start_gateway(
    settings: GatewaySettings, watch: Watch, keys: TokenKeys, sandboxes: SandboxNames | None = None
) -> AsyncIterator[Gateway]:
    """Serve endpoints for as long as the block lasts.

    Args:
        settings: see there.
        watch: knows the endpoints, and the requests at them.
        keys: open the tokens.
        sandboxes: finds those that E2B's API names; None where that is not served.

    Raises:
        HostError: Envoy is missing, refuses its configuration, or does not listen within 30 s (the port is
            taken).
    """
    _allow_many_files()
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.directory.chmod(0o700)  # who reaches the authoriser's socket could ask about tokens
    names = endpoint_names(settings.region, settings.domain, *([] if sandboxes is None else [sandboxes.domain]))
    certificates = settings.own_certificate or ensure_certificates(settings.directory / "tls", names)
    held = find_running("envoy", settings.directory) is not None
    port = settings.port or keep_port(settings.directory / "port", settings.address, held=held)
    https = plan_https(settings.https, settings.address, settings.directory, is_running=held)
    paths = _Paths.below(settings.directory)
    e2b_path = None if sandboxes is None else settings.directory / "e2b.sock"
    envoy = replace(
        _envoy_settings(settings, certificates, port, paths, watch.admissions), https=https, e2b_path=e2b_path
    )
    write_bootstrap(envoy, paths.config)
    app = Authoriser(
        watch.directory, keys, watch.traffic, watch.tls_ports, watch.admissions,
        region=settings.region, domain=settings.domain, hold_s=settings.authorise_timeout_s,
        sandboxes=sandboxes,
    )  # fmt: skip
    helper = Helper(
        name="envoy",
        arguments=envoy_args(paths.config, settings.concurrency),
        directory=settings.directory,
        files=(paths.config, certificates.certificate_path, certificates.key_path),
        is_ready=_presents(settings.address, port, certificates.certificate_path),
        on_end=watch.traffic.forget_connections,
    )
    async with contextlib.AsyncExitStack() as running:
        running.enter_context(read_reports(paths.reports, watch.traffic.read_line))
        second = _second_listener(settings, envoy)
        await validate(paths.config)
        listener = running.enter_context(listen_at(paths.authoriser))
        data_plane_listener = running.enter_context(listen_at(paths.data_plane))
        # The authoriser outlives Envoy's idle connections, so that only Envoy closes them.
        await running.enter_async_context(serve(app, listener, _KEEP_ALIVE_S))
        data_plane = create_data_plane(watch.directory)
        await running.enter_async_context(
            serve(data_plane, data_plane_listener, _KEEP_ALIVE_S, websocket_message_bytes=MESSAGE_BYTES_MAX)
        )
        await running.enter_async_context(supervise(helper))
        https_port = await _serve_second(second, settings, certificates, running)
        ports = f"port {port}" + (f" and port {https_port}" if https_port else "")
        log.info("endpoints are served at %s, %s", settings.address, ports)
        api_path = https.api_path if https and https_port else None
        yield Gateway(port, certificates.authority_path, helper.log_path, https_port, api_path, e2b_path)


def _second_listener(settings: GatewaySettings, envoy: EnvoySettings) -> HttpsListener | None:
    """Make the second listener's file, which must be there when Envoy looks at its configuration."""
    if envoy.https is None:
        return None
    # With an operator's certificate there is no local authority that clients trust.
    flag = None if settings.own_certificate else settings.https.flag
    second = HttpsListener(envoy, settings.region, settings.directory / "tls", flag)
    second.write()
    return second


async def _serve_second(
    second: HttpsListener | None, settings: GatewaySettings, certificates: Certificates,
    running: contextlib.AsyncExitStack,
) -> int:  # fmt: skip
    """Return the second port when it is served; it is followed until the end then."""
    port = settings.https.port
    if second is None or not await second.is_served(_presents(settings.address, port, certificates.certificate_path)):
        return 0
    background = Background()
    running.push_async_callback(background.close)
    background.start(second.follow(), "the watch over AWS's names")
    return port


@dataclass(frozen=True, slots=True)
class _Paths:
    """What lies in the gateway's directory beside certificates and logs."""

    config: Path
    authoriser: Path
    data_plane: Path
    reports: Path

    @classmethod
    def below(cls, directory: Path) -> _Paths:
        return cls(
            directory / "envoy.json",
            directory / "authoriser.sock",
            directory / "data-plane.sock",
            directory / "reports",
        )


def _envoy_settings(
    settings: GatewaySettings, certificates: Certificates, port: int, paths: _Paths, admissions: Admissions
) -> EnvoySettings:
    return EnvoySettings(
        address=settings.address,
        port=port,
        certificate_path=certificates.certificate_path,
        key_path=certificates.key_path,
        authoriser_path=paths.authoriser,
        data_plane_path=paths.data_plane,
        admissions_path=admissions.path,
        admissions_inode=admissions.inode,
        reports_path=paths.reports,
        authorise_timeout_s=settings.authorise_timeout_s,
    )


def _allow_many_files() -> None:
    """Use all of the descriptors that we may have: Envoy inherits the limit, and each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _presents(address: str, port: int, certificate_path: Path) -> Callable[[], Awaitable[bool]]:
    """Make a check that our own certificate is presented at the port, and not another server's."""
    ours = x509.load_pem_x509_certificates(certificate_path.read_bytes())[0].public_bytes(Encoding.DER)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  # compared, not bound

    async def presents() -> bool:
        try:
            async with asyncio.timeout(limit_s(5)):
                _, writer = await asyncio.open_connection(target, port, ssl=context)
        except (OSError, TimeoutError):
            return False
        presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return bool(presented == ours)

    return presents
