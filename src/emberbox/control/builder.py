"""Builds as background work: a bounded number at a time, their states in the rows, restarted after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from emberbox.control.egress import EgressRules
from emberbox.control.image_rules import build_log_group, find_hook, size_of
from emberbox.control.log_writer import LogWriter
from emberbox.control.role_sessions import RoleSession
from emberbox.control.roles import Roles
from emberbox.guest.metadata import MetadataService
from emberbox.images.pipeline import BuildPlan, Pipeline
from emberbox.machine.snapshot import ImageSnapshot, load_image_snapshot
from emberbox.model.errors import BuildError, HostError
from emberbox.model.records import Build, Image, ImageVersion, LogGroup
from emberbox.model.states import BuildState, ImageState
from emberbox.store.images import ImageStore

log = logging.getLogger(__name__)

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
        log_writer: LogWriter,
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
        self._tasks: set[asyncio.Task[None]] = set()

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
        task = asyncio.create_task(self._run(image, version, build), name=f"build {image.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop all builds; `resume_unfinished` starts them again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
        elif snapshot := self._published(image, version):
            self._store.finish_build(build, datetime.now(UTC), sizes=snapshot.sizes())
        else:  # the instant that it was to hold is past
            self._store.finish_build(build, datetime.now(UTC), reason=SERVER_ENDED)

    async def _run(self, image: Image, version: ImageVersion, build: Build) -> None:
        async with self._slots:
            self._store.begin_build(build, datetime.now(UTC))
            group = LogGroup(image.account_id, build_log_group(image.name, version.request))
            try:
                snapshot = self._published(image, version) or await self._pipeline.run(
                    self._plan(image, version, build), self._writer(group)
                )
            except BuildError as error:
                log.info("the build of %s failed: %s", image.name, error)
                self._store.finish_build(build, datetime.now(UTC), reason=error.reason)
            else:
                self._store.finish_build(build, datetime.now(UTC), sizes=snapshot.sizes())

    def _published(self, image: Image, version: ImageVersion) -> ImageSnapshot | None:
        """Return the snapshot that a build finished before the server could say so."""
        try:
            return self.load_snapshot(image.id, version.version)
        except HostError:
            return None

    def _writer(self, group: LogGroup) -> Callable[[str, str], None]:
        return lambda stream, line: self._log_writer.write(group, stream, line)

    def _plan(self, image: Image, version: ImageVersion, build: Build) -> BuildPlan:
        request = version.request
        try:
            egress = self._egress.policy(image.account_id, request["egressNetworkConnectors"])
        except HostError as error:
            raise BuildError("INTERNAL_PLATFORM_ERROR", str(error)) from error
        return BuildPlan(
            build_id=build.id,
            image_name=image.name,
            image_arn=image.arn,
            version=version.version,
            region=self._region,
            artifact_uri=request["codeArtifact"]["uri"],
            readable_prefixes=self._roles.readable_prefixes(image.account_id, request["buildRoleArn"]),
            size=size_of(request),
            environment=request.get("environmentVariables") or {},
            all_capabilities=bool(request.get("additionalOsCapabilities")),
            ready=find_hook(request, "ready"),
            validate=find_hook(request, "validate"),
            destination=self.snapshot_directory(image.id, version.version),
            scratch=self._home / "builds" / build.id,
            egress=egress,
            metadata=self._metadata(image, version),
        )

    def _metadata(self, image: Image, version: ImageVersion) -> MetadataService:
        role = version.request["buildRoleArn"]
        return RoleSession(self._roles.credentials, image.account_id, role, f"build-{image.name}").metadata()
