"""The composition root: reads settings, builds the objects, starts the servers, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore.config import Config

from emberbox.background import Background, every, in_thread
from emberbox.control.access.artifact_reader import reader_credential
from emberbox.control.access.guard import Access, AccessSettings
from emberbox.control.connectors.egress import ConnectorFinder, EgressRules
from emberbox.control.connectors.service import ConnectorService
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.images.builder import Builder
from emberbox.control.images.service import ImageFinder, ImageService
from emberbox.control.images.versions import ImageVersionService
from emberbox.control.logs.service import LogService
from emberbox.control.logs.writer import LogWriter
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.recovery import Recovery
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import PageTokens
from emberbox.control.server.events import EventService
from emberbox.control.server.host_info import HostInfo
from emberbox.control.server.info import ServerInfo
from emberbox.control.server.tags import TagService
from emberbox.edges.asgi import serve as serve_asgi
from emberbox.edges.aws.operations import events as event_operations
from emberbox.edges.aws.operations import forks as fork_operations
from emberbox.edges.aws.operations import microvms as microvm_operations
from emberbox.edges.aws.server import create_api
from emberbox.edges.connection_guard import GuardLimits
from emberbox.edges.gateway.judge.authoriser import Unreachable, Upstream
from emberbox.edges.gateway.proxy.admissions import THREADS, Admissions
from emberbox.edges.gateway.proxy.limits import EndpointLimits
from emberbox.edges.gateway.server import GatewaySettings, start_gateway
from emberbox.edges.gateway.tls.certificates import Certificates
from emberbox.edges.gateway.tls.own_certificate import load_own_certificate
from emberbox.guest.protocol import Command
from emberbox.guest.streams import GuestCommand
from emberbox.host import native, network
from emberbox.host.kernel import Kernel, ensure_kernel
from emberbox.host.log_files import trim_log_files
from emberbox.host.network import DNS_ADDRESS, PlaceNote, TapNetwork, has_names
from emberbox.host.s3_server import S3Settings, start_s3_server
from emberbox.host.space import DiskSpace
from emberbox.host.users import UserPool
from emberbox.images.containers import BuildNetwork, Containers
from emberbox.images.leftovers import clear_builds
from emberbox.images.managed import ManagedImages
from emberbox.images.pipeline import Limits, Pipeline
from emberbox.keys import ensure_credential
from emberbox.machine.connections import Connector
from emberbox.machine.engines import choose_engine, count_saved
from emberbox.machine.guests import GuestHost
from emberbox.machine.pool import WarmPool
from emberbox.model.arns import endpoint_host
from emberbox.model.causes import Actor, caused_by
from emberbox.model.egress import EgressPolicy
from emberbox.model.endpoints import EndpointNames
from emberbox.model.errors import EmberboxError, HostError, ServiceError
from emberbox.model.iam.access import Credential
from emberbox.settings import Settings
from emberbox.spec.models import CORE, EMBERBOX, LOGS, MICROVMS
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.connectors import ConnectorStore
from emberbox.store.database import Database
from emberbox.store.events import EventStore
from emberbox.store.images import ImageStore
from emberbox.store.logs import LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import log_metadata, metadata
from emberbox.vmm.base import Cage
from emberbox.vmm.qemu import QemuDriver
from emberbox.vmm.qemu.probe import find_version, probe_kvm

log = logging.getLogger(__name__)

API_KEEP_ALIVE_S = 75
_HOUSEKEEPING_S = 60.0
_TRIM_FILES_S = 5.0

_T = TypeVar("_T")


async def serve(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the whole server until cancelled; then suspend the microVMs that run, and stop.

    Args:
        settings: see there.
        on_ready: called when every endpoint answers and `runtime/endpoints.json` is written.

    Raises:
        HostError: something that is needed is missing; the message says what to do.
    """
    async with contextlib.AsyncExitStack() as running:
        running.enter_context(_locked_home(settings.home))
        server = _Server(settings, running)
        await server.start()
        running.enter_context(_endpoints_file(settings.home, server.endpoints()))
        on_ready()
        await asyncio.Event().wait()


@contextlib.contextmanager
def _locked_home(home: Path) -> Any:
    """Make the home directory and hold its lock: two servers on one directory would destroy each other's work."""
    for name in ("runtime", "secrets", "images", "microvms", "builds", "kernel", "base"):
        (home / name).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    with (home / "runtime" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(
                f"an Emberbox server runs on {home} already; `emberbox down` stops it, "
                "and EMBERBOX_HOME names another directory"
            ) from None
        yield


@contextlib.contextmanager
def _endpoints_file(home: Path, endpoints: dict[str, Any]) -> Any:
    """Tell clients on this machine where everything is, for as long as the block lasts."""
    path = home / "runtime" / "endpoints.json"
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(endpoints, indent=2))
    scratch.chmod(0o600)
    scratch.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _own_certificate(settings: Settings) -> Certificates | None:
    if not settings.tls_certificate:
        return None
    authority = Path(settings.tls_authority) if settings.tls_authority else None
    name = endpoint_host("*", settings.region, settings.domain)
    return load_own_certificate(Path(settings.tls_certificate), Path(settings.tls_key), authority, name)


@dataclass
class _Directory:
    """What the gateway asks about microVMs."""

    microvms: MicrovmService
    settings: Settings

    def find_by_host(self, host_label: str) -> str | None:
        return self.microvms.find_by_label(host_label)

    async def connect(self, microvm_id: str, port: int) -> Upstream:
        runner = self.microvms.find_runner(microvm_id)
        if runner is None:
            raise Unreachable(f"{microvm_id} has ended")
        if not runner.serves_applications():
            raise Unreachable(f"{microvm_id} was run without HTTP_INGRESS")
        try:
            with caused_by(Actor.REQUEST, f"A request to port {port}."):
                reached = await runner.reach(port)
        except (ServiceError, EmberboxError) as error:
            raise Unreachable(str(error)) from error
        if reached is None:
            raise Unreachable(f"{microvm_id} does not run")
        return Upstream(*reached, runner.spoke_tls(port))

    def doubt(self, microvm_id: str, port: int) -> None:
        runner = self.microvms.find_runner(microvm_id)
        if runner is not None:
            runner.doubt(port)

    async def wake(self, microvm_id: str) -> str:
        incarnation = await self._in_shell_runner(microvm_id, lambda runner: runner.wake())
        if incarnation is None:
            raise Unreachable(f"{microvm_id} does not run")
        return incarnation

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        running = await self._in_shell_runner(microvm_id, lambda runner: runner.open_command(command))
        if running is None:
            raise Unreachable(f"{microvm_id} does not run")
        return running

    async def _in_shell_runner(self, microvm_id: str, do: Callable[[MicrovmRunner], Awaitable[_T]]) -> _T:
        runner = self.microvms.find_runner(microvm_id)
        if runner is None:
            raise Unreachable(f"{microvm_id} has ended")
        if not runner.serves_shells():
            raise Unreachable(f"{microvm_id} was run without SHELL_INGRESS")
        try:
            return await do(runner)
        except ServiceError as error:
            raise Unreachable(str(error)) from error

    def find_limits(self, microvm_id: str) -> EndpointLimits:
        runner = self.microvms.find_runner(microvm_id)
        if runner is None:
            return EndpointLimits()
        count = runner.vcpu_count()
        return EndpointLimits(count * self.settings.connections_per_vcpu, count * self.settings.requests_per_vcpu)

    def note_bytes(self, microvm_id: str, *, from_client: bool) -> None:
        runner = self.microvms.find_runner(microvm_id)
        if runner is not None:
            runner.note_bytes(from_client=from_client)


class _Server:
    """Everything that runs; what `start` starts is stopped by the exit stack, last first."""

    def __init__(self, settings: Settings, running: contextlib.AsyncExitStack) -> None:
        self._settings = settings
        self._running = running
        self._credential: Credential = ensure_credential(settings.home, settings.account_id)
        self._network: TapNetwork | None = None
        self._accelerator = settings.accelerator
        self._api_url = self._s3_url = self._gateway = ""
        self._ca_bundle = Path()
        self._gateway_drain: Callable[[str], Awaitable[None]] | None = None
        self._kernel_lock = asyncio.Lock()
        self._background = Background()
        self._space = DiskSpace(settings.home, settings.disk_reserve_bytes or None)

    def endpoints(self) -> dict[str, Any]:
        """Return what `runtime/endpoints.json` holds."""
        return {
            "pid": os.getpid(),
            "home": str(self._settings.home),
            "region": self._settings.region,
            "account_id": self._settings.account_id,
            "api_url": self._api_url,
            "s3_url": self._s3_url,
            "gateway": self._gateway,
            "ca_bundle": str(self._ca_bundle),
            "accelerator": self._accelerator,
            "network": self._network_kind(),
        }

    def _network_kind(self) -> str:
        return "user" if self._network is None else "tap"

    async def start(self) -> None:
        """Start everything, in the order of need."""
        database = Database(self._database_url("emberbox.db"), metadata)
        log_database = Database(self._database_url("logs.db"), log_metadata, durable=False)
        self._running.callback(database.close)
        self._running.callback(log_database.close)
        admissions = self._open_admissions()  # revoked before a microVM of an earlier server can be replaced by another
        self._running.push_async_callback(self._background.close)
        self._background.start(self._space.watch(), "the watch over the disk")
        await clear_builds(self._settings.home)
        recovery = Recovery(self._settings.home, MicrovmStore(database).list_live())
        await asyncio.to_thread(recovery.clear)
        connector, users, void = await self._start_network(recovery)
        guests = GuestHost(await self._make_driver(users, void), connector, users, void, self._space)
        log_store = LogStore(log_database)
        log_writer = LogWriter(log_store, self._settings.log_max_bytes)
        log_writer.start()
        self._running.push_async_callback(log_writer.close)
        await self._start_service(guests, database, log_store, log_writer, recovery, admissions)

    async def _start_service(
        self, guests: GuestHost, database: Database, log_store: LogStore, log_writer: LogWriter,
        recovery: Recovery, admissions: Admissions,
    ) -> None:  # fmt: skip
        settings, home = self._settings, self._settings.home
        images, rows, tokens = ImageStore(database), MicrovmStore(database), ClientTokenStore(database)
        pages = PageTokens(home / "secrets" / "pages.key")
        keys = TokenKeys(home / "secrets" / "tokens.json")
        access = self._open_access(database, pages)
        pipeline = self._make_pipeline(guests, await self._start_s3())
        connectors = ConnectorStore(database)
        connector_finder = ConnectorFinder(connectors, settings.region)
        egress = EgressRules(connector_finder, connectors, settings.region, home)
        builder = Builder(
            images, pipeline, log_writer, egress, access.roles, home, settings.region, settings.concurrent_builds
        )
        since = datetime.fromtimestamp((home / "credentials").stat().st_mtime, UTC)
        finder = ImageFinder(images, settings.region)
        quotas = access.quotas
        image_service = ImageService(
            finder, images, rows, tokens, builder, egress, quotas, pages, settings.region, home, managed_since=since
        )
        version_service = ImageVersionService(finder, images, rows, tokens, builder, egress, quotas, settings.region)
        microvms = MicrovmService(rows, images, tokens, pages, keys, egress, quotas, settings.region)
        connector_service = ConnectorService(
            connector_finder, connectors, tokens, quotas, pages, settings.region, home, microvms.renew_egress
        )
        pool = WarmPool(guests, home, settings.warm_pool, builder.load_snapshot, images.is_launchable)
        timers = Timers()
        self._running.callback(timers.close)
        context = RunnerContext(
            rows,
            guests,
            log_writer,
            home,
            timers,
            builder.load_snapshot,
            images.tags_of,
            microvms.forget,
            egress.policy,
            access.roles.credentials,
            admissions.revoke,
            self._drain,
            pool,
            self._space,
        )
        self._running.push_async_callback(microvms.close)  # before: a stop while VMMs are taken over loses none
        await microvms.open(context, recovery)
        pool.start()
        self._running.push_async_callback(pool.close)
        port = await self._start_gateway(_Directory(microvms, settings), keys, admissions)
        names = EndpointNames(settings.region, settings.domain, port)
        builder.resume_unfinished()
        self._running.push_async_callback(builder.close)
        for service in (image_service, version_service):
            service.finish_deletions()
            self._running.push_async_callback(service.close)
        connector_service.finish_unsettled()
        self._running.push_async_callback(connector_service.close)
        events = EventService(EventStore(database), settings.event_retention_s)
        self._start_housekeeping(microvms, events, keys, log_store)
        forks = ForkService(microvms, images, tokens, builder, quotas, home)
        self._running.push_async_callback(forks.close)
        handlers = {
            MICROVMS: image_service.handlers()
            | version_service.handlers()
            | TagService(finder, images, connector_finder, connectors).handlers()
            | microvm_operations.handlers(microvms, names),
            CORE: connector_service.handlers(),
            LOGS: LogService(log_store, pages, settings.region).handlers(),
            EMBERBOX: ServerInfo(settings.region, self._accelerator, self._network_kind()).handlers()
            | fork_operations.handlers(forks, names)
            | event_operations.handlers(events)
            | HostInfo(microvms, images, pool, self._space).handlers()
            | access.handlers(),
        }
        await self._start_api(handlers, access)

    def _open_access(self, database: Database, pages: PageTokens) -> Access:
        settings = self._settings
        chosen = AccessSettings(
            home=settings.home,
            region=settings.region,
            operator_account=settings.account_id,
            strict_roles=settings.strict_roles,
            rate_limits=settings.rate_limits != "off",
            audit_file_bytes=settings.audit_file_bytes,
            audit_files=settings.audit_files,
        )
        access = Access(chosen, database, pages, lambda: ensure_credential(settings.home, settings.account_id))
        access.trail.start()
        self._running.push_async_callback(access.trail.close)
        return access

    def _database_url(self, name: str) -> str:
        return self._settings.database_url or f"sqlite:///{self._settings.home / name}"

    async def _make_driver(self, users: UserPool | None, void: Path | None) -> QemuDriver:
        wanted, shim, kvm = self._settings.accelerator, native.memory_shim_path(), None
        version = await find_version()
        if wanted != "tcg":
            uid = None if users is None else users.take()
            kvm = await probe_kvm(Cage(uid, void), shim)
            if users is not None and uid is not None:
                users.give_back(uid)
            if kvm.problem:
                log.warning("KVM does not work here: %s", kvm.problem)
        engine = choose_engine(wanted, version, kvm, count_saved(self._settings.home))
        self._accelerator = engine.accelerator
        log.info("guests run with %s", engine)
        if self._accelerator == "tcg":
            log.warning("guests are emulated: good for development and CI, no security boundary (docs/security.md)")
        return QemuDriver(engine, shim, native.tsc_khz())

    async def _start_network(self, recovery: Recovery) -> tuple[Connector, UserPool | None, Path | None]:
        settings = self._settings
        users = UserPool(settings.uid_base) if os.geteuid() == 0 else None
        problem = await network.find_obstacle() if settings.network == "auto" else None
        if settings.network == "user" or problem:
            log.info("microVMs are connected by user-mode networks%s", f": {problem}" if problem else "")
            return Connector(None, settings.resolv_conf), users, None
        tap = TapNetwork(settings.network_cidr, (os.geteuid(),), PlaceNote(settings.home), settings.resolv_conf)
        await tap.open(recovery.slots())
        self._running.push_async_callback(tap.close)
        self._network = tap
        return Connector(tap), users, tap.void

    async def _start_s3(self) -> Any:
        """Return a client for the S3 that artifacts come from."""
        settings = self._settings
        config = Config(s3={"addressing_style": "path"}, retries={"mode": "standard"})
        if settings.s3_endpoint_url:
            self._s3_url = settings.s3_endpoint_url
            return boto3.client("s3", endpoint_url=self._s3_url, region_name=settings.region, config=config)
        reader = reader_credential(settings.home, settings.account_id)
        chosen = S3Settings(
            home=settings.home,
            state_directory=settings.home / "runtime" / "s3",
            database_url=self._database_url("emberbox.db"),
            account_id=settings.account_id,
            region=settings.region,
            domain=settings.domain,
            probe=reader,
            port=settings.s3_port,
        )
        server = await self._running.enter_async_context(start_s3_server(chosen))
        self._s3_url = server.endpoint_url
        return boto3.client(
            "s3",
            endpoint_url=self._s3_url,
            region_name=settings.region,
            aws_access_key_id=reader.access_key_id,
            aws_secret_access_key=reader.secret_access_key,
            config=config,
        )

    def _make_pipeline(self, guests: GuestHost, s3: Any) -> Pipeline:
        settings = self._settings
        containers = Containers(settings.home / "containers")
        self._running.push_async_callback(containers.close)
        managed = ManagedImages(containers, settings.home / "base")
        limits = Limits(settings.artifact_max_bytes, settings.artifact_max_unpacked_bytes, settings.build_timeout_s)
        self._running.push_async_callback(self._background.close)
        self._background.start(self._prepare(managed), "the making of the base image")
        return Pipeline(
            containers,
            managed,
            guests,
            self._kernel,
            s3,
            self._build_network,
            limits,
            self._space,
            s3_has_accounts=not settings.s3_endpoint_url,
        )

    async def _prepare(self, managed: ManagedImages) -> None:
        """Make what the first build needs while nobody waits for it yet."""
        try:
            await self._kernel()
            await managed.ensure_debian(lambda line: log.info("%s", line))
            log.info("guest kernel and base image are ready")
        except HostError as error:
            log.error("builds cannot work yet: %s", error)

    async def _kernel(self) -> Kernel:
        async with self._kernel_lock:
            return await ensure_kernel(self._settings.home / "kernel")

    @contextlib.asynccontextmanager
    async def _build_network(self, egress: EgressPolicy | None) -> AsyncIterator[BuildNetwork]:
        """RUN steps get a microVM's network: the internet or what a policy says, and nothing of the host."""
        if self._network is None:
            if egress is not None:
                raise HostError("a network connector of an image needs networks of its own (docs/network.md: tap)")
            yield BuildNetwork()
            return
        slot = await self._network.take()
        try:
            if egress is not None:
                await self._network.restrict(slot, egress)
            await self._network.open_to_builds(slot)
            resolver = DNS_ADDRESS if has_names(egress) else None
            yield BuildNetwork(self._network.namespace_path(slot), resolver)
        finally:
            await self._network.give_back(slot)

    def _open_admissions(self) -> Admissions:
        directory = self._gateway_directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        admissions = Admissions(directory / "admissions")
        self._running.callback(admissions.close)
        return admissions

    def _gateway_directory(self) -> Path:
        return self._settings.home / "runtime" / "gateway"

    async def _start_gateway(self, directory: _Directory, keys: TokenKeys, admissions: Admissions) -> int:
        settings = self._settings
        gateway = await self._running.enter_async_context(
            start_gateway(
                GatewaySettings(
                    self._gateway_directory(),
                    settings.region,
                    settings.domain,
                    settings.gateway_host,
                    settings.gateway_port,
                    concurrency=min(os.cpu_count() or 1, THREADS),
                    own_certificate=_own_certificate(settings),
                ),
                directory,
                keys,
                admissions,
            )
        )
        self._gateway = f"{settings.gateway_host}:{gateway.port}"
        self._ca_bundle = gateway.authority_path
        self._gateway_drain = gateway.drain
        return gateway.port

    async def _drain(self, microvm_id: str) -> None:
        if self._gateway_drain is not None:  # microVMs are taken over before the gateway starts
            await self._gateway_drain(microvm_id)

    async def _start_api(self, handlers: dict[str, Any], access: Access) -> None:
        settings = self._settings
        family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
        # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits for a delayed ACK
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.api_host, settings.api_port))
        except OSError as error:
            listener.close()
            raise HostError(
                f"port {settings.api_port} of {settings.api_host} is taken ({error.strerror}); set EMBERBOX_API_PORT"
            ) from error
        self._api_url = f"http://{settings.api_host}:{listener.getsockname()[1]}"
        app = create_api(handlers, access.find_credential, settings.region, guard=access)
        await self._running.enter_async_context(serve_asgi(app, listener, API_KEEP_ALIVE_S, limits=GuardLimits()))
        log.info("the API is served at %s", self._api_url)

    def _start_housekeeping(
        self, microvms: MicrovmService, events: EventService, keys: TokenKeys, logs: LogStore
    ) -> None:
        """Let what has served its time go, now and then; one thing that fails keeps nothing else from being done."""
        settings = self._settings

        async def rotate() -> None:
            keys.rotate_when_older(settings.token_key_age_s, datetime.now(UTC))

        async def forget_microvms() -> None:
            await in_thread(microvms.forget_terminated, settings.terminated_retention_s)

        async def forget_events() -> None:
            await in_thread(events.forget_old)

        async def trim_logs() -> None:
            await in_thread(logs.forget_old, time.time_ns() // 1_000_000, settings.log_retention_days)
            await in_thread(logs.forget_beyond, settings.log_max_bytes)

        self._background.start(every(_HOUSEKEEPING_S, rotate, forget_microvms, forget_events), "housekeeping")

        async def trim_files() -> None:
            """A guest can make its VMM say as much as it likes, on the console of a build above all."""
            await in_thread(trim_log_files, settings.home)

        self._background.start(every(_HOUSEKEEPING_S, trim_logs), "the trimming of logs")
        self._background.start(every(_TRIM_FILES_S, trim_files), "the trimming of VMMs' logs")
