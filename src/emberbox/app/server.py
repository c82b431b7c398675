"""The whole server: what exists, in the order in which it is made and started; it is stopped last first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime

from emberbox.app.api import serve_api
from emberbox.app.builds import start_pipeline
from emberbox.app.console import serve_console
from emberbox.app.daytona import serve_daytona
from emberbox.app.e2b import E2bGround, make_gate, serve_e2b
from emberbox.app.endpoints import describe_gateway, open_admissions, serve_endpoints
from emberbox.app.home import database_url, endpoints_file, locked_home
from emberbox.app.housekeeping import start_housekeeping
from emberbox.app.machine import start_guests
from emberbox.app.objects import start_object_storage
from emberbox.app.stacks import work_on_stacks
from emberbox.background import Background
from emberbox.control.access.guard import Access, AccessSettings
from emberbox.control.assembly import ControlSettings, Ground, Stores, make_control
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.logs.writer import LogWriter
from emberbox.control.microvms.endpoint import EndpointDirectory
from emberbox.control.microvms.recovery import Recovery
from emberbox.control.microvms.runners import Runners
from emberbox.control.requests.paging import PageTokens
from emberbox.control.server.info import ServerInfo
from emberbox.edges.aws.operations.collection import collect_handlers
from emberbox.edges.gateway.watch import Watch
from emberbox.host.figures import measure_host
from emberbox.host.space import DiskSpace
from emberbox.images.leftovers import clear_builds
from emberbox.keys import ensure_credential
from emberbox.machine.local import (
    LocalCheckpoints,
    LocalEngines,
    LocalLeftovers,
    LocalMachine,
    LocalSnapshots,
    Places,
)
from emberbox.machine.pool import WarmPool
from emberbox.model.endpoints import EndpointLimits, EndpointNames
from emberbox.model.errors import HostError
from emberbox.model.images import emulated_architectures, takeable_architectures
from emberbox.model.records import LOCAL_HOST, Microvm
from emberbox.settings import Settings
from emberbox.spec.models import every_operation_name
from emberbox.store.database import Database
from emberbox.store.logs import LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import log_metadata, metadata

log = logging.getLogger(__name__)


async def serve(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Run the whole server until cancelled; then suspend the microVMs that run, and stop.

    Args:
        settings: see there.
        on_ready: called when every endpoint answers and `runtime/endpoints.json` is written.

    Raises:
        HostError: something that is needed is missing; the message says what to do.
    """
    async with contextlib.AsyncExitStack() as running:
        running.enter_context(locked_home(settings.home))
        endpoints = await _start(settings, running)
        running.enter_context(endpoints_file(settings.home, endpoints))
        on_ready()
        await asyncio.Event().wait()


async def _start(settings: Settings, running: contextlib.AsyncExitStack) -> dict[str, str | int]:
    """Start everything, in the order of need; return what `runtime/endpoints.json` holds."""
    home = settings.home
    ensure_credential(home, settings.account_id)
    database = _open_database(Database(database_url(settings, "emberbox.db"), metadata), running)
    stores = Stores.over(database, _open_log_database(settings, database, running))
    admissions = open_admissions(settings, running)  # before a microVM of an earlier server can be replaced by another
    space, background = DiskSpace(home, settings.disk_reserve_bytes or None), Background()
    running.push_async_callback(background.close)
    background.start(space.watch(), "the watch over the disk")
    await clear_builds(home)
    places = Places(home)
    leftovers = LocalLeftovers(home, places)
    recovery = Recovery(leftovers, _take_over(stores.microvms))
    await asyncio.to_thread(recovery.clear)

    network, guests = await start_guests(settings, leftovers.slots(), space, running)
    accelerator, engines = guests.engines.own.engine.accelerator, LocalEngines(guests.engines)
    pool = WarmPool(
        guests=guests, home=home, size=settings.warm_pool, load_snapshot=places.load_snapshot,
        is_launchable=stores.images.is_launchable,
    )  # fmt: skip
    machine, runners = LocalMachine(guests, pool, places, leftovers.survivors), Runners()
    log_writer = _open_log_writer(stores.logs, settings.log_max_bytes, running)
    pages, keys = PageTokens(home / "secrets" / "pages.key"), TokenKeys(home / "secrets" / "tokens.json")
    access = _open_access(settings, database, pages, running)
    objects = await start_object_storage(settings, running)
    pipeline = start_pipeline(settings, guests, network.tap, objects, space, places, running)

    watch = Watch(directory := _make_directory(settings, runners, stores.microvms), admissions)
    ground = Ground(
        stores=stores, access=access, page_tokens=pages, token_keys=keys, log_writer=log_writer,
        machine=machine, checkpoints=LocalCheckpoints(guests, places), snapshots=LocalSnapshots(places),
        pool=pool, engines=engines, builds=pipeline, room=space, measure_host=lambda: measure_host(space),
        runners=runners, revoke=admissions.revoke, drain=watch.traffic.drain,
    )  # fmt: skip
    control = make_control(_control_settings(settings), ground)
    await running.enter_async_context(control.run_microvms(recovery))
    gate = make_gate(settings, control)
    gateway = await serve_endpoints(settings, watch, keys, objects, gate, running)  # when every microVM has its owner
    await running.enter_async_context(control.work())
    start_housekeeping(settings, control, keys, stores.logs, background)
    server = ServerInfo(settings.region, accelerator, network.kind, engines.report)
    handlers = collect_handlers(control, server, EndpointNames(settings.region, settings.domain, gateway.endpoint_port))
    await work_on_stacks(settings, control, handlers, objects, running)
    return {
        "pid": os.getpid(),
        "home": str(home),
        "region": settings.region,
        "account_id": settings.account_id,
        "api_url": await serve_api(settings, handlers, access, gateway.api_path, running),
        **await serve_console(settings, control, handlers, directory, database.changes, running),
        **await serve_e2b(settings, control, E2bGround(objects, stores.logs, gateway), running),
        **await serve_daytona(settings, control, running),
        "s3_url": objects.url,
        **describe_gateway(settings, gateway),
        "accelerator": accelerator,
        "network": network.kind,
    }


def _take_over(microvms: MicrovmStore) -> list[Microvm]:
    """Return what an earlier server left; from now on nobody but this server changes it."""
    try:
        return microvms.take_over(LOCAL_HOST)
    except HostError as error:  # a full disk: the server starts all the same, and an earlier one is gone most likely
        log.error("an earlier server is not shut out: %s", error)
        return microvms.list_live()


def _open_database(database: Database, running: contextlib.AsyncExitStack) -> Database:
    running.callback(database.close)
    return database


def _open_log_database(settings: Settings, database: Database, running: contextlib.AsyncExitStack) -> Database:
    """Open the database of logs; who listens to changes of the other hears of its changes too."""
    url = database_url(settings, "logs.db")
    return _open_database(Database(url, log_metadata, durable=False, changes=database.changes), running)


def _open_log_writer(store: LogStore, bytes_max: int, running: contextlib.AsyncExitStack) -> LogWriter:
    writer = LogWriter(store, bytes_max)
    writer.start()
    running.push_async_callback(writer.close)
    return writer


def _open_access(
    settings: Settings, database: Database, pages: PageTokens, running: contextlib.AsyncExitStack
) -> Access:
    chosen = AccessSettings(
        home=settings.home,
        region=settings.region,
        operator_account=settings.account_id,
        strict_roles=settings.strict_roles,
        rate_limits=settings.rate_limits != "off",
        audit_file_bytes=settings.audit_file_bytes,
        audit_files=settings.audit_files,
    )
    access = Access(
        chosen,
        database=database,
        page_tokens=pages,
        first_key=lambda: ensure_credential(settings.home, settings.account_id),
        operations=every_operation_name(),
    )
    access.trail.start()
    running.push_async_callback(access.trail.close)
    return access


def _make_directory(settings: Settings, runners: Runners, store: MicrovmStore) -> EndpointDirectory:
    limits = EndpointLimits(settings.connections_per_vcpu, settings.requests_per_vcpu)
    return EndpointDirectory(runners=runners, store=store, limits_per_vcpu=limits)


def _control_settings(settings: Settings) -> ControlSettings:
    return ControlSettings(
        home=settings.home,
        region=settings.region,
        managed_since=datetime.fromtimestamp((settings.home / "credentials").stat().st_mtime, UTC),
        concurrent_builds=settings.concurrent_builds,
        event_retention_s=settings.event_retention_s,
        architectures=takeable_architectures(others_too=settings.arm64 != "refuse"),
        standard_template=settings.e2b_template,
        emulated=emulated_architectures(settings.arm64),
    )
