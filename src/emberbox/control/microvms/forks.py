"""Snapshots, forks and rollbacks of microVMs: what Emberbox has beside AWS's operations."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from emberbox.background import Background
from emberbox.control.access.quotas import Quotas
from emberbox.control.images.builder import Builder
from emberbox.control.images.versions import next_version
from emberbox.control.microvms.commands import ForkMicrovm, RestoreMicrovm, SnapshotMicrovm
from emberbox.control.microvms.launcher import Launcher
from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.service import MicrovmService, check_hook_payload
from emberbox.control.requests.idempotency import find_made, note_made
from emberbox.machine.base import Left, Snapshots
from emberbox.model.caller import Caller
from emberbox.model.clock import Instant
from emberbox.model.errors import (
    ConflictError,
    EmberboxError,
    InternalError,
    NotFoundError,
    ServiceError,
    ValidationError,
)
from emberbox.model.iam.quotas import VERSIONS
from emberbox.model.images import VersionedImage
from emberbox.model.records import Build, Image, ImageVersion, Microvm
from emberbox.model.states import Action, BuildState, MicrovmState, VersionState, VersionStatus
from emberbox.store.client_tokens import ClientTokenStore
from emberbox.store.images import ImageStore
from emberbox.time_limits import limit_s

CHECKPOINT_FAILED: Final = "SNAPSHOT_FAILED"
CHECKPOINTS_WITHIN_S: Final = limit_s(60.0)


@dataclass(frozen=True, slots=True)
class TakenSnapshot:
    """A snapshot of a microVM: a version of its image.

    Args:
        image: the image.
        version: the version.
        stopped_s: how many seconds the microVM stood still for it; None where an earlier request took it.
    """

    image: Image
    version: ImageVersion
    stopped_s: float | None = None


@dataclass(frozen=True, slots=True)
class Forks:
    """The forks of a microVM.

    Args:
        microvms: the forks.
        stopped_s: how many seconds the microVM stood still for them; None where an earlier request made them.
    """

    microvms: Sequence[Microvm]
    stopped_s: float | None = None


class ForkService:
    """Takes snapshots of microVMs, forks them, and rolls them back.

    Args:
        microvms: finds the microVMs.
        launcher: launches the forks.
        images: images and versions; each snapshot is a version.
        client_tokens: earlier requests.
        builder: settles the builds that snapshots count as.
        snapshots: what they made.
        quotas: the limits of accounts.
    """

    def __init__(
        self,
        *,
        microvms: MicrovmService,
        launcher: Launcher,
        images: ImageStore,
        client_tokens: ClientTokenStore,
        builder: Builder,
        snapshots: Snapshots,
        quotas: Quotas,
    ) -> None:
        self._microvms = microvms
        self._launcher = launcher
        self._images = images
        self._client_tokens = client_tokens
        self._builder = builder
        self._snapshots = snapshots
        self._quotas = quotas
        self._background = Background()

    # --- snapshots

    async def snapshot(self, caller: Caller, asked: SnapshotMicrovm) -> TakenSnapshot:
        """Make a new image version from a microVM, and return when it is SUCCESSFUL.

        Raises:
            ServiceError: it may not be made, or could not.
        """
        earlier = find_made(self._client_tokens, caller, asked.client_request, self._find_taken)
        if earlier is not None:
            return earlier
        runner = self._find_runner(caller, asked.microvm_id)
        self._microvms.check_room("A snapshot cannot be taken")
        image_id = runner.version.image_id
        versions = self._images.list_versions(image_id)
        self._quotas.check(caller.account_id, VERSIONS, len(versions))
        name, now = next_version(versions), datetime.now(UTC)
        version = ImageVersion(
            image_id, name, VersionState.PENDING, VersionStatus.INACTIVE, runner.version.request, now, now
        )
        build = Build(str(uuid.uuid4()), image_id, name, BuildState.PENDING, None, None, now)
        made = f"{image_id}/{name}"
        token = note_made(caller, asked.client_request, made)
        if not self._images.add_version(version, build, token, taken_from=runner.id):
            raise ConflictError("The MicroVM's image is being updated or deleted; wait until it has settled.")
        stopped_s = await self._background.see_through(self._take(runner, build), f"a snapshot of {runner.id}")
        if asked.status is VersionStatus.INACTIVE:
            self._images.set_version_status(image_id, name, VersionStatus.INACTIVE, datetime.now(UTC))
        taken = self._find_taken(made)
        if taken is None:
            raise ConflictError(f"The version {name} has been deleted meanwhile; take another snapshot.")
        return replace(taken, stopped_s=stopped_s)

    async def _take(self, runner: MicrovmRunner, build: Build) -> float:
        """Take the snapshot and settle its version, whatever happens."""
        checkpoints, sizes = runner.context.checkpoints, None
        try:
            self._images.begin_build(build, datetime.now(UTC))
            stopped_s = await runner.take_checkpoint(build.id)
            await checkpoints.keep(build.id, build.image_id, build.version)
            sizes = self._snapshots.sizes(build.image_id, build.version)
        except (EmberboxError, OSError) as error:
            raise _as_service_error(error, runner) from error
        finally:
            await checkpoints.drop(build.id)
            await self._builder.finish(build, sizes, CHECKPOINT_FAILED)
        return stopped_s

    def _find_taken(self, made: str) -> TakenSnapshot | None:
        image_id, _, name = made.partition("/")
        image, version = self._images.find_by_id(image_id), self._images.find_version(image_id, name)
        if image is None or version is None or VersionedImage(image, version).is_going:
            return None
        return TakenSnapshot(image, version)

    # --- forks

    async def fork(self, caller: Caller, asked: ForkMicrovm) -> Forks:
        """Make microVMs that go on from this instant of another, and return when they are PENDING.

        Raises:
            ServiceError: they may not be made, or could not.
        """
        find = partial(self._find_forks, caller, asked.count)
        earlier = find_made(self._client_tokens, caller, asked.client_request, find)
        if earlier is not None:
            return earlier
        runner = self._find_runner(caller, asked.microvm_id)
        check_hook_payload(asked.hook_payload, runner.version)
        self._microvms.check_memory(caller, runner.version, asked.count)
        self._microvms.check_room("A MicroVM cannot be forked")
        return await self._background.see_through(self._fork(runner, caller, asked), f"forks of {runner.id}")

    def _find_forks(self, caller: Caller, count: int, group: str) -> Forks | None:
        """Return those forks of an earlier request that are still there; None when all are gone."""
        found = [self._microvms.find_shown(caller, fork_id) for fork_id in _fork_ids(group, count)]
        left = [fork for fork in found if fork is not None]
        return Forks(left) if left else None

    async def _fork(self, runner: MicrovmRunner, caller: Caller, asked: ForkMicrovm) -> Forks:
        group = str(uuid.uuid4())
        forks = [_fork_of(runner.microvm, asked, microvm_id) for microvm_id in _fork_ids(group, asked.count)]
        checkpoints = runner.context.checkpoints
        try:
            stopped_s = await runner.take_checkpoint(group)
            await checkpoints.give(group, [fork.id for fork in forks])
            self._check_again(caller, runner, asked.count)
            self._launcher.launch(forks, note_made(caller, asked.client_request, group))
        except BaseException as error:
            for fork in forks:
                await runner.context.machine.end(fork.id, Left.NOTHING)
            if isinstance(error, EmberboxError | OSError):
                raise _as_service_error(error, runner) from error
            raise
        finally:
            await checkpoints.drop(group)
        return Forks([self._microvms.get(caller, fork.id) for fork in forks], stopped_s)

    def _check_again(self, caller: Caller, runner: MicrovmRunner, count: int) -> None:
        """Check what may have changed while the checkpoint was taken; nothing changes any more before they are added.

        Raises:
            QuotaExceededError: other microVMs were launched.
            ConflictError: the microVM has ended, and its image is gone.
        """
        self._microvms.check_memory(caller, runner.version, count)
        version = self._images.find_version(runner.version.image_id, runner.version.version)
        if version is None or version.state is not VersionState.SUCCESSFUL:
            raise ConflictError(f"The image version of the MicroVM {runner.id} has been deleted meanwhile.")

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._background.close(CHECKPOINTS_WITHIN_S)

    # --- rollbacks

    async def restore(self, caller: Caller, asked: RestoreMicrovm) -> None:
        """Bring a microVM back to a snapshot of its own, and return when it runs.

        Raises:
            ServiceError: it may not be brought there, or could not.
        """
        runner = self._find_runner(caller, asked.microvm_id)
        image_id, name = runner.version.image_id, asked.version
        own = self._images.list_taken_from(runner.id)
        if name not in own:
            raise ValidationError(
                f"imageVersion {name} was not made from the MicroVM {runner.id} by SnapshotMicrovm; "
                f"those that were: {', '.join(own) or 'none'}"
            )
        version = self._images.find_version(image_id, name)
        if version is None or version.state is not VersionState.SUCCESSFUL:
            raise ConflictError(f"The image version {name} is not SUCCESSFUL.")
        try:
            await runner.roll_back(name)
        except (EmberboxError, OSError) as error:
            raise _as_service_error(error, runner) from error

    def _find_runner(self, caller: Caller, microvm_id: str) -> MicrovmRunner:
        runner = self._microvms.act_on(caller, microvm_id, Action.CHECKPOINT)
        if runner is None:
            raise NotFoundError(f"MicroVM not found: {microvm_id}")
        return runner


def _fork_ids(group: str, count: int) -> list[str]:
    """Return the ids of the forks that one request makes: a repeat of it finds them by the request's id alone."""
    return [f"microvm-{uuid.uuid5(uuid.UUID(group), str(number))}" for number in range(count)]


def _fork_of(source: Microvm, asked: ForkMicrovm, microvm_id: str) -> Microvm:
    request = source.request
    if asked.hook_payload is not None:
        request = replace(request, hook_payload=asked.hook_payload)
    return replace(
        source,
        id=microvm_id,
        endpoint_label=str(uuid.uuid4()),
        state=MicrovmState.PENDING,
        state_reason=None,
        request=request,
        incarnation=1,
        started_at=datetime.now(UTC),
        terminated_at=None,
        started=Instant.now(),
        suspended=None,
        own_base=True,
        forked_from=source.id,
        generation=1,
    )


def _as_service_error(error: Exception, runner: MicrovmRunner) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    return InternalError(f"The state of the MicroVM {runner.id} could not be copied; it goes on as it was: {error}")
