"""Builds as background work: a bounded number at a time, their states in the rows, restarted after a restart."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from emberbox.background import Background, until_written
from emberbox.control.access.role_sessions import RoleSession
from emberbox.control.access.roles import Roles
from emberbox.control.connectors.egress import EgressRules
from emberbox.control.logs.sink import GroupLog, LogSink
from emberbox.guest.metadata import MetadataService
from emberbox.images.pipeline import BuildPlan, Pipeline
from emberbox.machine.snapshot import ImageSnapshot, load_image_snapshot
from emberbox.model.errors import BuildError, HostError
from emberbox.model.hooks import HookName
from emberbox.model.records import Build, Image, ImageVersion, LogGroup
from emberbox.model.states import BuildState, ImageState
from emberbox.store.images import ImageStore

log = logging.getLogger(__name__)

BUILD_BROKE: Final = "INTERNAL_PLATFORM_ERROR"
SERVER_ENDED: Final = "The Emberbox server ended while the snapshot was taken; take it again."


class Builder:
    """Runs builds.

    Args:
        store: images, versions, builds.
        pipeline: does the work.
        log_writer: takes the build logs.
        egress: says what builds may reach.
        roles: says what a build may read.
        home: the state directory; snapshots are kept under `images`, scratch files under `builds`.
        region: the region played.
        concurrent: how many builds run at a time.
    """

    def __init__(
        self,
        store: ImageStore,
        pipeline: Pipeline,
        log_writer: LogSink,
        egress: EgressRules,
        roles: Roles,
        home: Path,
        region: str,
        concurrent: int,
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._log_writer = log_writer
        self._egress = egress
        self._roles = roles
        self._home = home
        self._region = region
        self._slots = asyncio.Semaphore(concurrent)
        self._background = Background()

    def snapshot_directory(self, image_id: str, version: str) -> Path:
        """Return where the snapshot of a version is, or will be."""
        return self._home / "images" / image_id / version

    def load_snapshot(self, image_id: str, version: str) -> ImageSnapshot:
        """Return the snapshot of a version.

        Raises:
            HostError: it is missing or damaged.
        """
        return load_image_snapshot(self.snapshot_directory(image_id, version))

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
            snapshot = self._published(image, version)
            reason = SERVER_ENDED if snapshot is None else None  # the instant that it was to hold is past
            self._background.start(self.finish(build, snapshot, reason), f"the end of a snapshot of {image.name}")

    async def _run(self, image: Image, version: ImageVersion, build: Build) -> None:
        snapshot, reason = None, None
        async with self._slots:
            try:
                self._store.begin_build(build, datetime.now(UTC))
                snapshot = self._published(image, version) or await self._build(image, version, build)
            except BuildError as error:
                log.info("the build of %s failed: %s", image.name, error)
                reason = error.reason
            except Exception:
                log.exception("the build of %s failed", image.name)
                snapshot = self._published(image, version)  # then only what came after has failed
                reason = BUILD_BROKE
        await self.finish(build, snapshot, reason)

    async def _build(self, image: Image, version: ImageVersion, build: Build) -> ImageSnapshot:
        group = LogGroup(image.account_id, version.request.log_group(image.name))
        return await self._pipeline.run(self._plan(image, version, build), GroupLog(self._log_writer, group))

    async def finish(self, build: Build, snapshot: ImageSnapshot | None, reason: str | None) -> None:
        """Settle a build and its version in the rows, as soon as they can be written.

        Args:
            build: the build.
            snapshot: what it has made; None where it failed.
            reason: why it failed.
        """
        sizes = None
        try:
            sizes = None if snapshot is None else snapshot.sizes()
        except OSError:
            log.exception("the snapshot of the build %s cannot be read", build.id)
        why = None if sizes is not None else reason or BUILD_BROKE
        await until_written(
            lambda: self._store.finish_build(build, datetime.now(UTC), reason=why, sizes=sizes),
            f"the end of the build {build.id}",
        )

    def _published(self, image: Image, version: ImageVersion) -> ImageSnapshot | None:
        """Return the snapshot that a build finished before the server could say so."""
        try:
            return self.load_snapshot(image.id, version.version)
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
            destination=self.snapshot_directory(image.id, version.version),
            scratch=self._home / "builds" / build.id,
            egress=egress,
            metadata=self._metadata(image, version),
        )

    def _metadata(self, image: Image, version: ImageVersion) -> MetadataService:
        role = version.request.build_role
        session = RoleSession(self._roles.credentials, image.account_id, role, f"build-{image.name}")
        return MetadataService(session.credentials)
