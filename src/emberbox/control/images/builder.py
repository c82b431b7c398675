"""Builds as background work: a bounded number at a time, their states in the rows, restarted after a restart."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from functools import partial
from typing import Final

from emberbox.background import Background, until_written
from emberbox.control.access.role_sessions import RoleSession
from emberbox.control.access.roles import Roles
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.logs.sink import GroupLog, LogSink
from emberbox.images.base import BuildPlan, Builds
from emberbox.machine.base import Snapshots
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import BuildError, HostError
from emberbox.model.hooks import HookName
from emberbox.model.image_requests import ImageRequest
from emberbox.model.images import PROCESSOR
from emberbox.model.records import Build, Image, ImageVersion, LogGroup
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import BuildState, ImageState
from emberbox.store.images import ImageStore

log = logging.getLogger(__name__)

BUILD_BROKE: Final = "INTERNAL_PLATFORM_ERROR"
EMULATED: Final = (
    "NOTE: the image is built for ARM_64, and emulated (EMBERBOX_ARM64=emulate): that is slow, and no security boundary"
)
SERVER_ENDED: Final = "The Emberbox server ended while the snapshot was taken; take it again."


class Builder:
    """Runs builds.

    Args:
        store: images, versions, builds.
        builds: does the work.
        snapshots: those that it made.
        log_writer: takes the build logs.
        egress: says what builds may reach.
        roles: says what a build may read.
        region: the region played.
        concurrent: how many builds run at a time.
        has_emulation: whether a Dockerfile may ask for another architecture by `FROM --platform`.
    """

    def __init__(
        self,
        store: ImageStore,
        builds: Builds,
        snapshots: Snapshots,
        log_writer: LogSink,
        egress: EgressRules,
        roles: Roles,
        region: str,
        concurrent: int,
        *,
        has_emulation: bool = False,
    ) -> None:
        self._store = store
        self._builds = builds
        self._snapshots = snapshots
        self._log_writer = log_writer
        self._egress = egress
        self._roles = roles
        self._region = region
        self._has_emulation = has_emulation
        self._slots = asyncio.Semaphore(concurrent)
        self._background = Background()

    def start(self, image: Image, version: ImageVersion, build: Build) -> None:
        """Build a version in the background."""
        self._background.start(self._run(image, version, build), f"the build of {image.name}")

    async def close(self) -> None:
        """Stop all builds; `resume_unfinished` starts them again."""
        await self._background.close()

    def resume_unfinished(self) -> None:
        """Start again what an earlier server left unfinished."""
        for image in self._store.list_in_state(ImageState.CREATING, ImageState.UPDATING):
            for version in self._store.list_versions(image.id):
                for build in self._store.list_builds(image.id, version.version):
                    if build.state in (BuildState.PENDING, BuildState.IN_PROGRESS):
                        self._resume(image, version, build)

    def _resume(self, image: Image, version: ImageVersion, build: Build) -> None:
        if not self._store.is_checkpoint(image.id, version.version):
            log.info("the build of %s starts again", image.name)
            self.start(image, version, build)
        else:
            sizes = self._published(image, version)
            reason = SERVER_ENDED if sizes is None else None  # the instant that it was to hold is past
            self._background.start(self.finish(build, sizes, reason), f"the end of a snapshot of {image.name}")

    async def _run(self, image: Image, version: ImageVersion, build: Build) -> None:
        sizes, reason = None, None
        async with self._slots:
            try:
                self._store.begin_build(build, datetime.now(UTC))
                sizes = self._published(image, version) or await self._build(image, version, build)
            except BuildError as error:
                log.info("the build of %s failed: %s", image.name, error)
                reason = error.reason
            except Exception:
                log.exception("the build of %s failed", image.name)
                sizes = self._published(image, version)  # then only what came after has failed
                reason = BUILD_BROKE
        await self.finish(build, sizes, reason)

    async def _build(self, image: Image, version: ImageVersion, build: Build) -> SnapshotSizes:
        group = LogGroup(image.account_id, version.request.log_group(image.name))
        return await self._builds.run(self._plan(image, version, build), GroupLog(self._log_writer, group))

    async def finish(self, build: Build, sizes: SnapshotSizes | None, reason: str | None) -> None:
        """Settle a build and its version in the rows, as soon as they can be written.

        Args:
            build: the build.
            sizes: of the snapshot that it has made; None where it failed.
            reason: why it failed.
        """
        why = None if sizes is not None else reason or BUILD_BROKE
        await until_written(
            lambda: self._store.finish_build(build, datetime.now(UTC), reason=why, sizes=sizes),
            f"the end of the build {build.id}",
        )

    def _published(self, image: Image, version: ImageVersion) -> SnapshotSizes | None:
        """Return the sizes of the snapshot that a build finished before the server could say so."""
        try:
            return self._snapshots.sizes(image.id, version.version)
        except HostError:
            return None

    def _plan(self, image: Image, version: ImageVersion, build: Build) -> BuildPlan:
        request = version.request
        try:
            egress = self._egress.policy(image.account_id, request.egress)
        except HostError as error:
            raise BuildError("INTERNAL_PLATFORM_ERROR", str(error)) from error
        return BuildPlan(
            build_id=build.id,
            image_id=image.id,
            image_name=image.name,
            image_arn=image.arn,
            version=version.version,
            region=self._region,
            artifact_uri=request.artifact_uri,
            readable_prefixes=self._roles.readable_prefixes(image.account_id, request.build_role),
            account_id=image.account_id,
            size=request.size,
            environment=request.environment or {},
            all_capabilities=request.has_all_capabilities,
            ready=request.find_hook(HookName.READY),
            validate=request.find_hook(HookName.VALIDATE),
            egress=egress,
            credentials=RoleSession(
                self._roles.credentials, image.account_id, request.build_role, f"build-{image.name}"
            ).credentials,
            notes=_notes(request),
            engine=request.engine,
            on_engine=partial(self._take_engine, version) if self._follows_platform(request) else None,
        )

    def _follows_platform(self, request: ImageRequest) -> bool:
        return self._has_emulation and not request.architectures and not request.engine

    def _take_engine(self, version: ImageVersion, engine: str) -> str:
        self._store.set_engine(version.image_id, version.version, engine)
        return EMULATED


def _notes(request: ImageRequest) -> tuple[str, ...]:
    """Say so when the image is built for another processor than it was asked for, or is emulated."""
    if request.engine == ARM64_ENGINE:
        return (EMULATED,)
    return tuple(
        f"NOTE: {asked} was asked for, and the image is built for {PROCESSOR.architecture}, which is what this machine "
        f"has (EMBERBOX_ARM64=host): programs in the artifact that were compiled for {asked} do not run"
        for asked in dict.fromkeys(request.architectures or ())
        if asked != PROCESSOR.architecture
    )
