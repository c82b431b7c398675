"""The control plane put together: every service, of what it stores, what it runs on and what was chosen."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from emberbox.control.access.guard import Access
from emberbox.control.connectors.egress import ConnectorFinder, EgressRules
from emberbox.control.connectors.networks import Networks, load_networks
from emberbox.control.connectors.service import ConnectorService
from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.control.images.builder import Builder
from emberbox.control.images.service import ImageFinder, ImageService
from emberbox.control.images.versions import ImageVersionService
from emberbox.control.logs.service import LogService
from emberbox.control.logs.writer import LogWriter
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.launcher import Launcher
from emberbox.control.microvms.recovery import Recovery
from emberbox.control.microvms.runner_context import RunnerContext
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import PageTokens
from emberbox.control.sandboxes.assembly import Sandboxes, make_sandboxes
from emberbox.control.server.events import EventService
from emberbox.control.server.host_info import HostInfo
from emberbox.control.server.spending import SpendingService
from emberbox.control.server.tags import TagService
from emberbox.control.stacks.change_sets import ChangeSetService
from emberbox.control.stacks.service import StackService
from emberbox.control.stacks.stored import StoredParameters
from emberbox.images.base import Builds
from emberbox.machine.base import Checkpoints, Engines, Machine, Prepared, Room, Snapshots
from emberbox.model.usage import HostFigures
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.connectors import ConnectorStore
from emberbox.store.database import Database
from emberbox.store.events import EventStore
from emberbox.store.images import ImageStore
from emberbox.store.logs import LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.sandboxes import SandboxStore
from emberbox.store.snapshots import SnapshotStore
from emberbox.store.stacks import StackStore
from emberbox.store.stored_parameters import StoredParameterStore
from emberbox.store.templates import TemplateStore


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """What the operator chose.

    Args:
        home: the state directory.
        region: the region played.
        managed_since: when the managed images came to be here.
        concurrent_builds: how many builds run at a time.
        event_retention_s: for how many seconds events are kept.
        architectures: those that an image may ask for.
        standard_template: the image that stands for E2B's standard templates; empty where there is none.
        emulated: those of the architectures that are emulated.
    """

    home: Path
    region: str
    managed_since: datetime
    concurrent_builds: int
    event_retention_s: float
    architectures: tuple[str, ...]
    standard_template: str = ""
    emulated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stores:
    """What is stored."""

    images: ImageStore
    microvms: MicrovmStore
    sandboxes: SandboxStore
    snapshots: SnapshotStore
    templates: TemplateStore
    connectors: ConnectorStore
    client_tokens: ClientTokenStore
    events: EventStore
    stacks: StackStore
    stored_parameters: StoredParameterStore
    logs: LogStore

    @classmethod
    def over(cls, database: Database, log_database: Database) -> Stores:
        """Make the stores of two databases, which the caller closes."""
        return cls(
            images=ImageStore(database),
            microvms=MicrovmStore(database),
            sandboxes=SandboxStore(database),
            snapshots=SnapshotStore(database),
            templates=TemplateStore(database),
            connectors=ConnectorStore(database),
            client_tokens=ClientTokenStore(database),
            events=EventStore(database),
            stacks=StackStore(database),
            stored_parameters=StoredParameterStore(database),
            logs=LogStore(log_database),
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """What a control plane stands on; whoever made it closes it.

    Args:
        stores: what is stored.
        access: who may do what.
        page_tokens: for the lists.
        token_keys: for endpoint tokens.
        log_writer: takes what builds and applications say.
        machine: runs microVMs.
        checkpoints: takes and brings back their instants.
        snapshots: what microVMs are launched from.
        pool: microVMs that are prepared on it.
        engines: what it runs them on.
        builds: builds images.
        room: the room on the disk.
        measure_host: returns what the machine has now.
        runners: where microVMs are found; the endpoints know it already.
        revoke: takes back that requests for a microVM may reach it without being asked about.
        drain: does so, and waits for a second at most until the requests that have just begun on it have ended.
    """

    stores: Stores
    access: Access
    page_tokens: PageTokens
    token_keys: TokenKeys
    log_writer: LogWriter
    machine: Machine
    checkpoints: Checkpoints
    snapshots: Snapshots
    pool: Prepared
    engines: Engines
    builds: Builds
    room: Room
    measure_host: Callable[[], HostFigures]
    runners: Runners
    revoke: Callable[[str], None]
    drain: Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Control:
    """All services, and what they work with."""

    access: Access
    images: ImageService
    versions: ImageVersionService
    connectors: ConnectorService
    microvms: MicrovmService
    forks: ForkService
    sandboxes: Sandboxes
    tags: TagService
    logs: LogService
    events: EventService
    spending: SpendingService
    stacks: StackService
    change_sets: ChangeSetService
    stored_parameters: StoredParameters
    host_info: HostInfo
    builder: Builder
    egress: EgressRules
    runners: Runners
    launcher: Launcher
    pool: Prepared
    timers: Timers
    networks: Callable[[], Networks]
    page_tokens: PageTokens

    @contextlib.asynccontextmanager
    async def run_microvms(self, recovery: Recovery) -> AsyncIterator[None]:
        """Own microVMs for as long as the block lasts: first those that an earlier server left."""
        async with contextlib.AsyncExitStack() as running:
            running.callback(self.timers.close)
            running.push_async_callback(self.runners.close)  # before: a stop while VMMs are taken over loses none
            self.launcher.recover(recovery)
            self.sandboxes.service.watch_timeouts()
            running.push_async_callback(self.sandboxes.service.close)
            self.pool.start()
            running.push_async_callback(self.pool.close)
            yield

    @contextlib.asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Build, delete and settle for as long as the block lasts: first what an earlier server left unfinished."""
        async with contextlib.AsyncExitStack() as running:
            self.builder.resume_unfinished()
            running.push_async_callback(self.builder.close)
            self.images.finish_deletions()
            running.push_async_callback(self.images.close)
            self.versions.finish_deletions()
            running.push_async_callback(self.versions.close)
            self.connectors.finish_unsettled()
            running.push_async_callback(self.connectors.close)
            running.push_async_callback(self.forks.close)
            yield


def make_control(settings: ControlSettings, ground: Ground) -> Control:
    """Make every service; nothing runs yet."""
    stores, roles, quotas = ground.stores, ground.access.roles, ground.access.quotas
    home, region, pages = settings.home, settings.region, ground.page_tokens
    connectors, images = ConnectorFinder(stores.connectors, region), ImageFinder(stores.images, region)
    egress = EgressRules(connectors, stores.connectors, region, home)
    builder = Builder(
        store=stores.images, builds=ground.builds, snapshots=ground.snapshots, log_writer=ground.log_writer,
        egress=egress, roles=roles, region=region, concurrent=settings.concurrent_builds,
        has_emulation=bool(settings.emulated),
    )  # fmt: skip
    timers = Timers()
    context = _make_context(ground, egress, timers)
    launcher = Launcher(runners=ground.runners, context=context, store=stores.microvms, images=stores.images)
    microvms = _make_microvms(ground, launcher, egress, region)
    forks = _make_forks(ground, microvms, launcher, builder)
    stored = StoredParameters(stores.stored_parameters)
    stacks = StackService(stores.stacks, ground.access.delegates, stored.find_value, pages, region)
    versions = ImageVersionService(
        finder=images, store=stores.images, microvms=stores.microvms, client_tokens=stores.client_tokens,
        builder=builder, snapshots=ground.snapshots, egress=egress, quotas=quotas, region=region,
        architectures=settings.architectures, engines=ground.engines, emulated=settings.emulated,
    )  # fmt: skip
    return Control(
        access=ground.access,
        images=ImageService(
            finder=images, store=stores.images, microvms=stores.microvms, client_tokens=stores.client_tokens,
            builder=builder, egress=egress, quotas=quotas, page_tokens=pages, region=region,
            snapshots=ground.snapshots, managed_since=settings.managed_since, architectures=settings.architectures,
            engines=ground.engines, emulated=settings.emulated,
        ),
        versions=versions,
        connectors=ConnectorService(
            finder=connectors, store=stores.connectors, client_tokens=stores.client_tokens, quotas=quotas,
            page_tokens=pages, region=region, home=home, on_change=ground.runners.renew_egress,
        ),
        microvms=microvms,
        forks=forks,
        sandboxes=make_sandboxes(
            store=stores.sandboxes, snapshots=stores.snapshots, names=stores.templates, images=stores.images,
            microvms=microvms, forks=forks, versions=versions, runners=ground.runners, timers=timers, page_tokens=pages,
            region=region, standard_template=settings.standard_template,
        ),
        tags=_make_tags(ground, images, connectors),
        logs=LogService(stores.logs, pages),
        events=EventService(store=stores.events, retention_s=settings.event_retention_s),
        spending=SpendingService(stores.events, stores.microvms, stores.images),
        stacks=stacks,
        change_sets=ChangeSetService(stacks, stores.stacks),
        stored_parameters=stored,
        host_info=HostInfo(ground.runners, stores.images, ground.pool, ground.measure_host),
        builder=builder,
        egress=egress,
        runners=ground.runners,
        launcher=launcher,
        pool=ground.pool,
        timers=timers,
        networks=partial(load_networks, home),
        page_tokens=pages,
    )  # fmt: skip


def _make_microvms(ground: Ground, launcher: Launcher, egress: EgressRules, region: str) -> MicrovmService:
    stores = ground.stores
    return MicrovmService(
        store=stores.microvms, images=stores.images, runners=ground.runners, launcher=launcher, machine=ground.machine,
        client_tokens=stores.client_tokens, page_tokens=ground.page_tokens, token_keys=ground.token_keys, egress=egress,
        quotas=ground.access.quotas, room=ground.room, region=region,
    )  # fmt: skip


def _make_tags(ground: Ground, images: ImageFinder, connectors: ConnectorFinder) -> TagService:
    return TagService(
        images=images, image_store=ground.stores.images, connectors=connectors,
        connector_store=ground.stores.connectors, engines=ground.engines,
    )  # fmt: skip


def _make_forks(ground: Ground, microvms: MicrovmService, launcher: Launcher, builder: Builder) -> ForkService:
    return ForkService(
        microvms=microvms, launcher=launcher, images=ground.stores.images, client_tokens=ground.stores.client_tokens,
        builder=builder, snapshots=ground.snapshots, quotas=ground.access.quotas,
    )  # fmt: skip


def _make_context(ground: Ground, egress: EgressRules, timers: Timers) -> RunnerContext:
    return RunnerContext(
        store=ground.stores.microvms,
        machine=ground.machine,
        checkpoints=ground.checkpoints,
        room=ground.room,
        log_writer=ground.log_writer,
        timers=timers,
        image_tags=ground.stores.images.tags_of,
        on_ended=ground.runners.forget,
        find_egress=egress.policy,
        issue_credentials=ground.access.roles.credentials,
        revoke=ground.revoke,
        drain=ground.drain,
    )
