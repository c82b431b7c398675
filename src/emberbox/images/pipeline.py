"""The build of one image version: fetch, build, pack, boot, ready, snapshot, validate, publish."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberbox.background import in_thread
from emberbox.guest.agent import fresh_identity
from emberbox.guest.lines import OutputLines
from emberbox.guest.metadata import MetadataService
from emberbox.guest.output import OutputListener
from emberbox.guest.protocol import Application
from emberbox.guest.tls import find_tls
from emberbox.host import disk, scratch
from emberbox.host.architecture import of_engine
from emberbox.host.kernel import Kernel
from emberbox.host.kernel_modules import ensure_modules
from emberbox.host.space import DiskSpace, is_full_disk
from emberbox.images.artifact import S3Client, UnpackLimits, check_readable, fetch, unpack
from emberbox.images.base import BuildLog, BuildPlan, LogStream
from emberbox.images.bases import NO_SUBSTITUTES, Bases
from emberbox.images.builders import ContainerBuild, ContainerBuilder
from emberbox.images.config import ImageConfig, RootFileSystem
from emberbox.images.dockerfile import find_platform
from emberbox.images.importer import ImageImporter
from emberbox.images.oci.archives import is_image_archive
from emberbox.images.readiness import rests, wait_settled, wait_succeeds
from emberbox.images.substitutes import Substitutes
from emberbox.machine.connections import GUEST_RESOLV_CONF
from emberbox.machine.guest import Guest
from emberbox.machine.guests import GuestHost
from emberbox.machine.hooks import call_build_hook
from emberbox.machine.local import Places
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.arns import new_microvm_id
from emberbox.model.errors import (
    BuildError,
    CapacityError,
    DiskFullError,
    GuestError,
    HostError,
    StartError,
    VmmError,
)
from emberbox.model.hooks import Hook
from emberbox.model.image_references import is_image_uri
from emberbox.model.logs import log_stream_name
from emberbox.model.sizes import SnapshotSizes
from emberbox.time_limits import limit_s
from emberbox.vmm.base import MachineShape, VmmDriver

log = logging.getLogger(__name__)

DEFAULT_CAPABILITIES = 0x00000000A80425FB
ALL_CAPABILITIES = 0x000001FFFFFFFFFF
DEFAULT_PORT = 8080
FULL_DISK_BYTES = 32 << 20
_FORGET_TIMEOUT_S = limit_s(3.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a build: bytes of the artifact, bytes unpacked, seconds for the container build."""

    artifact_bytes: int
    unpacked_bytes: int
    build_timeout_s: int


@dataclass(frozen=True, slots=True)
class Run:
    """One build under way.

    Args:
        plan: what is built.
        directory: of this build's own; removed at the end.
        log: where its lines go.
        stream: the one of the build itself.
        metadata: answers the metadata address of its microVMs, with the build role's credentials.
    """

    plan: BuildPlan
    directory: Path
    log: BuildLog
    stream: LogStream
    metadata: MetadataService

    @property
    def archive(self) -> Path:
        """Where the artifact is put."""
        return self.directory / "artifact"

    @property
    def context(self) -> Path:
        """What is built: a Dockerfile with its files, or the layout of an image."""
        return self.directory / "context"

    @property
    def is_image(self) -> bool:
        """Whether the artifact is an image that is there already."""
        return is_image_uri(self.plan.artifact_uri) or is_image_archive(self.archive)

    def say(self, line: str) -> None:
        """Tell how far the build is."""
        self.stream.write(line)

    async def take_line(self, line: str) -> None:
        """Pass on what a tool says; the tool waits while too many lines are not stored yet.

        Of a line that is drawn over itself, as progress is, the last counts, as on a terminal.
        """
        await self.stream.wait_for_room()
        self.stream.write(line.rpartition("\r")[2])

    @contextlib.asynccontextmanager
    async def output(self) -> AsyncIterator[OutputListener]:
        """Send what the application of one of its microVMs writes to a stream of its own."""
        output = OutputLines(self.log.stream(log_stream_name(self.plan.version, f"microvm-{uuid.uuid4()}")))
        try:
            yield output
        finally:
            output.finish()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What builds for one architecture are made with.

    Args:
        builder: builds the Dockerfiles.
        kernel: returns the guest kernel, for engines whose guests boot one.
    """

    builder: ContainerBuilder
    kernel: Callable[[], Awaitable[Kernel]]


class Pipeline:
    """Builds image versions; one object serves all builds.

    Args:
        builder: builds the Dockerfiles.
        guests: starts the guests.
        kernel: returns the guest kernel, for engines whose guests boot one.
        s3: a client for the S3 that artifacts come from.
        limits: see there.
        space: the room on the disk; without it no build begins or goes on.
        places: says where a build works, and where its snapshot is kept.
        s3_has_accounts: the buckets of that S3 belong to accounts of this server.
        importer: gathers images that are there already; None takes one that knows no registry of the operator's.
        substitutes: what is used in place of images in registries.
        others: what serves engines in place of these two, by their names: those for another architecture.
    """

    def __init__(
        self, builder: ContainerBuilder, guests: GuestHost, kernel: Callable[[], Awaitable[Kernel]], s3: S3Client,
        limits: Limits, space: DiskSpace, places: Places, *, s3_has_accounts: bool,
        importer: ImageImporter | None = None, substitutes: Substitutes = NO_SUBSTITUTES,
        others: Mapping[str, Workshop] | None = None,
    ) -> None:  # fmt: skip
        self._workshop = Workshop(builder, kernel)
        self._others = others or {}
        self._guests = guests
        self._s3 = s3
        self._limits = limits
        self._s3_has_accounts = s3_has_accounts
        self._space = space
        self._places = places
        self._bases = Bases(importer or ImageImporter(), substitutes)

    async def run(self, plan: BuildPlan, build_log: BuildLog) -> SnapshotSizes:
        """See `base.Builds`."""
        stream = build_log.stream(log_stream_name("0.0", plan.build_id))
        run = Run(plan, self._places.scratch(plan.build_id), build_log, stream, MetadataService(plan.credentials))
        try:
            for note in plan.notes:
                run.say(note)
            self._space.check("The image cannot be built")
            run.directory.mkdir(parents=True)
            return await self._space.unless_full(self._build(run))
        except Exception as error:
            failure = as_build_error(error, shutil.disk_usage(run.directory.parent).free)
            run.say(f"FAILED: {failure.reason}" + (f": {failure.detail}" if failure.detail else ""))
            raise failure from error
        finally:
            try:
                await scratch.remove_tree(run.directory)
            except Exception:  # what became of the build counts, and the next start clears up too
                log.exception("what the build %s has left could not be removed", plan.build_id)

    async def _build(self, run: Run) -> SnapshotSizes:
        await self._open_artifact(run)
        run = self._follow_platform(run)
        driver = await self._guests.engines.ensure(run.plan.engine)
        config, root = await self._build_container(run, driver)
        snapshot = await self._make_snapshot(run, config, root, driver)
        if run.plan.validate is not None:
            await self._validate(run, snapshot, run.plan.validate)
        return await self._publish(run, snapshot)

    async def _open_artifact(self, run: Run) -> None:
        """Fetch the artifact, and unpack it where it is a Dockerfile with its files."""
        plan = run.plan
        run.say(f"Fetching {plan.artifact_uri}")
        check_readable(plan.artifact_uri, plan.readable_prefixes)
        if not is_image_uri(plan.artifact_uri):
            await self._fetch(plan, run.archive)
        if not run.is_image:
            unpacked = UnpackLimits(total_bytes=self._limits.unpacked_bytes)
            await asyncio.to_thread(unpack, run.archive, run.context, unpacked)

    def _follow_platform(self, run: Run) -> Run:
        """Build for what the Dockerfile asks for by `FROM --platform`, where the request says nothing of it."""
        plan, dockerfile = run.plan, run.context / "Dockerfile"
        if plan.on_engine is None or run.is_image:
            return run
        platform = find_platform(dockerfile.read_bytes().decode(errors="surrogateescape"))
        engine = next((name for name in self._others if of_engine(name).platform == platform), None)
        if engine is None:
            return run
        run.say(plan.on_engine(engine))
        return dataclasses.replace(run, plan=dataclasses.replace(plan, engine=engine))

    async def _build_container(self, run: Run, driver: VmmDriver) -> tuple[ImageConfig, RootFileSystem]:
        plan, directory, archive, context = run.plan, run.directory, run.archive, run.context
        limits = (self._limits.artifact_bytes, self._limits.unpacked_bytes, self._limits.build_timeout_s)
        work, builder = await self._work(run, context, driver), self._find_workshop(plan).builder
        if run.is_image:
            await self._bases.gather_image(plan, archive, context, limits, run.take_line)
            archive.unlink(missing_ok=True)
            config, root = await builder.load(work)
        else:
            bases = await self._bases.gather(plan, context, directory / "bases", limits, run.take_line)
            config, root = await builder.build(dataclasses.replace(work, bases=bases))
            await asyncio.to_thread(shutil.rmtree, directory / "bases", ignore_errors=True)
        for note in root.notes:
            run.say(note)
        await asyncio.to_thread(shutil.rmtree, context)
        archive.unlink(missing_ok=True)
        return config, root

    def _find_workshop(self, plan: BuildPlan) -> Workshop:
        return self._others.get(plan.engine, self._workshop)

    async def _fetch(self, plan: BuildPlan, archive: Path) -> None:
        is_granted = plan.readable_prefixes is not None  # by the operator, who may grant another account's bucket
        owner = plan.account_id if self._s3_has_accounts and not is_granted else None
        await fetch(self._s3, plan.artifact_uri, archive, self._limits.artifact_bytes, owner)

    async def _work(self, run: Run, context: Path, driver: VmmDriver) -> ContainerBuild:
        modules, own_kernel = None, driver.capabilities.own_kernel
        if own_kernel and run.plan.all_capabilities:
            kernel = await self._find_workshop(run.plan).kernel()
            modules = await in_thread(ensure_modules, kernel.directory, kernel.release)
        return ContainerBuild(
            run.plan,
            run.directory,
            context,
            run.directory / "root.erofs",
            self._limits.build_timeout_s,
            run.say,
            run.take_line,
            own_kernel=own_kernel,
            modules=modules,
        )

    async def _make_snapshot(
        self, run: Run, config: ImageConfig, root: RootFileSystem, driver: VmmDriver
    ) -> ImageSnapshot:
        plan, directory = run.plan, run.directory
        shape = MachineShape(plan.size.vcpu_count, plan.size.mem_size_mib)
        kernel, runs = None, str(driver.engine)
        if driver.capabilities.own_kernel:
            await disk.make_writable(directory / "disk", plan.size.disk_bytes)
            kernel = await self._find_workshop(plan).kernel()
            runs = f"Linux {kernel.release}"
        run.say(f"Booting a microVM: {shape.vcpu_count} vCPU, {shape.mem_size_mib} MiB, {runs}")
        started = time.monotonic()
        application = make_application(plan, config, root)
        async with run.output() as on_output:
            guest = await self._guests.boot(
                directory, directory / "root.erofs", shape, kernel, application, on_output, plan.egress, plan.engine
            )
            guest.serve_metadata(run.metadata.serve)
            try:
                run.say(f"The application was started after {time.monotonic() - started:.1f} s")
                ports = config.ports or (DEFAULT_PORT,)
                await self._wait_ready(guest, plan.ready, config, run.say)
                found = await _find_ports(guest, ports)
                saved = await guest.take_snapshot()
            finally:
                await guest.end()
        run.say(f"The snapshot was taken after {time.monotonic() - started:.1f} s")
        return ImageSnapshot(shape, saved, found)

    async def _wait_ready(
        self, guest: Guest, hook: Hook | None, config: ImageConfig, say: Callable[[str], None]
    ) -> None:
        if hook is not None:
            say(f"Calling /ready on port {hook.port}")
            await while_it_runs(guest, call_build_hook(guest.agent, hook))
        elif config.ready:
            say(f"Waiting until this succeeds: {config.ready}")
            await while_it_runs(guest, wait_succeeds(guest.agent, config.ready))
        else:
            say("Waiting until the application listens and rests (no /ready hook is enabled)")
            await while_it_runs(guest, wait_settled(guest, config.ports or (DEFAULT_PORT,), say))

    async def _validate(self, run: Run, snapshot: ImageSnapshot, hook: Hook) -> None:
        trial = run.directory / "trial"
        trial.mkdir()
        run.say(f"Launching a trial microVM and calling /validate on port {hook.port}")
        async with run.output() as on_output:
            identity = fresh_identity(new_microvm_id(), uuid.uuid4().hex)
            guest = await self._guests.launch(snapshot, trial, identity, on_output, run.plan.egress)
            guest.serve_metadata(run.metadata.serve)
            try:
                await while_it_runs(guest, call_build_hook(guest.agent, hook))
            finally:
                await guest.end()
        await asyncio.to_thread(shutil.rmtree, trial)

    async def _publish(self, run: Run, snapshot: ImageSnapshot) -> SnapshotSizes:
        for said in ("console", "vmm.log"):
            (run.directory / said).unlink(missing_ok=True)
        await in_thread(snapshot.publish)
        published = await in_thread(snapshot.move_to, self._places.image(run.plan.image_id, run.plan.version))
        sizes = published.sizes()
        run.say(f"SUCCESSFUL: {_tell(sizes)}")
        return sizes


def make_application(plan: BuildPlan, config: ImageConfig, root: RootFileSystem) -> Application:
    """Join what the Dockerfile and the image say into what the guest runs."""
    user = root.user
    environment = {"HOME": user.home, **dict(root.environment), **dict(config.environment), **plan.environment}
    environment |= {
        "AWS_LAMBDA_MICROVM_IMAGE_NAME": plan.image_name,
        "AWS_LAMBDA_MICROVM_IMAGE_ARN": plan.image_arn,
        "AWS_LAMBDA_MICROVM_IMAGE_VERSION": plan.version,
        "AWS_REGION": plan.region,
    }
    return Application(
        arguments=config.arguments,
        environment=tuple(environment.items()),
        directory=config.directory,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        capabilities=ALL_CAPABILITIES if plan.all_capabilities else DEFAULT_CAPABILITIES,
        privileged=plan.all_capabilities,
        hostname=new_microvm_id(),  # as long as the one of a launch, so the guest's files keep their lengths
        resolv_conf=GUEST_RESOLV_CONF,
    )


async def while_it_runs(guest: Guest, work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work`, but no longer than the application runs.

    Raises:
        BuildError: the application's main process ended, or the VMM did.
    """
    task = asyncio.create_task(work)
    died = asyncio.create_task(guest.wait_exited())
    try:
        ends: list[asyncio.Future[Any]] = [task, died, guest.agent.exited]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        elif guest.agent.exited.done():
            raise BuildError(
                f"Container Stopped with Exit Code: {guest.agent.exited.result()}",
                "the application's main process ended before the snapshot; its output is in the log",
            )
        else:
            raise VmmError(died.result())
    finally:
        for pending in (task, died):
            pending.cancel()
        await asyncio.gather(task, died, return_exceptions=True)


async def _find_ports(guest: Guest, ports: tuple[int, ...]) -> tuple[tuple[int, bool], ...]:
    """Find out now which ports speak TLS, so that no launch has to; then let the application forget the question.

    Only those that the network reaches: of any other it is asked where it listens, whenever it is first used.
    """
    found = [
        (port, is_tls)
        for port in ports
        if await guest.ports.is_direct(port) and (is_tls := await find_tls(guest.agent, port)) is not None
    ]
    if found:
        await rests(guest, time.monotonic() + _FORGET_TIMEOUT_S)
    return tuple(found)


def as_build_error(error: Exception, free_bytes: int) -> BuildError:
    """Say what any failure means for the build's `stateReason`.

    Args:
        error: what happened.
        free_bytes: the space left on the disk. A VMM whose memory file cannot grow dies without a word.
    """
    if isinstance(error, BuildError):
        return error
    died_of_it = isinstance(error, GuestError | VmmError) and free_bytes < FULL_DISK_BYTES
    if isinstance(error, DiskFullError | CapacityError):
        return BuildError("DISK_STORAGE_FULL", f"{error}; then build again")
    if is_full_disk(error) or died_of_it:
        return BuildError("DISK_STORAGE_FULL", "the disk is full; free some space and build again")
    if isinstance(error, StartError):
        return BuildError("CONTAINER_BUILD_FAILED", f"the application cannot be started: {error}")
    if isinstance(error, GuestError | VmmError | HostError):
        return BuildError("INTERNAL_PLATFORM_ERROR", str(error))
    log.error("a build failed unexpectedly", exc_info=error)
    return BuildError("INTERNAL_PLATFORM_ERROR", f"an unexpected failure of Emberbox: {type(error).__name__}: {error}")


def _tell(sizes: SnapshotSizes) -> str:
    told = {
        "memorySnapshotSizeInBytes": sizes.memory,
        "codeInstallSizeInBytes": sizes.code,
        "diskSnapshotSizeInBytes": sizes.disk,
    }
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in told.items())
