"""No row sticks: what has happened is told in the end, whatever failed beside it and however long the disk was full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_connectors import configuration, get, make, update

from emberbox import background
from emberbox.control.microvms.commands import ForkMicrovm, SnapshotMicrovm
from emberbox.control.microvms.forks import ForkService
from emberbox.host import disk
from emberbox.images.base import BuildPlan
from emberbox.machine.local import LocalCheckpoints, LocalSnapshots, Places
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.arns import managed_image_arn
from emberbox.model.caller import Caller
from emberbox.model.errors import HostError, QuotaExceededError
from emberbox.model.iam.quotas import MEMORY
from emberbox.model.records import Build, Image, ImageVersion, Microvm
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import BuildState, MicrovmState, VersionState, VersionStatus
from emberbox.store.client_tokens import ClientTokenStore
from support.api_world import World
from support.control_plane import ROLE, ControlPlane
from support.fake_machine import make_image
from support.wire import KEY, REGION

CORE, MICROVMS = "lambda-core", "lambda-microvms"
CALLER = Caller(KEY.account_id, KEY.access_key_id, REGION, "request", "")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "RETRY_INTERVAL_S", 0.005)


def fail_at_first(monkeypatch: pytest.MonkeyPatch, store: Any, name: str, times: int = 3) -> None:
    """Let a method of a store find the database full for the first few times."""
    left, real = [HostError("the database cannot be used: disk full")] * times, getattr(store, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        if left:
            raise left.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(store, name, method)


# --- builds


Outcome = Callable[[Path], ImageSnapshot]


class StandInPipeline:
    """Builds by doing what a test says."""

    def __init__(self, images: Path, build: Outcome) -> None:
        self._images = images
        self._build = build

    async def run(self, plan: BuildPlan, _write_log: Any) -> SnapshotSizes:
        await asyncio.sleep(0)
        return self._build(self._images / plan.image_id / plan.version).sizes()


async def build(world: World, outcome: Outcome) -> tuple[str, str, str | None]:
    """Build an image; return its state, and the build's state and reason, when nothing is done any more."""
    world.plane._builder._builds = StandInPipeline(world.plane.directory / "images", outcome)  # type: ignore[assignment]
    made = await world.ok(
        MICROVMS, "CreateMicrovmImage", name="web", buildRoleArn=ROLE,
        baseImageArn=managed_image_arn(REGION, "debian12-1"), codeArtifact={"uri": "s3://code/key"},
    )  # fmt: skip
    await world.plane.settle()
    image = world.plane.images.find(made["imageArn"])
    assert image is not None
    (built,) = world.plane.images.list_builds(image.id, "1.0")
    return image.state, built.state, built.state_reason


def succeed(destination: Path) -> ImageSnapshot:
    return make_image(destination)


def succeed_and_fail_to_clean_up(destination: Path) -> ImageSnapshot:
    make_image(destination)
    raise OSError(28, "No space left on device")


def break_down(_destination: Path) -> ImageSnapshot:
    raise KeyError("what nobody thought of")


async def test_a_build_that_breaks_in_a_way_nobody_thought_of_has_failed(world: World) -> None:
    assert await build(world, break_down) == ("CREATE_FAILED", "FAILED", "INTERNAL_PLATFORM_ERROR")


async def test_a_build_that_only_fails_to_clean_up_is_successful(world: World) -> None:
    assert await build(world, succeed_and_fail_to_clean_up) == ("CREATED", "SUCCESSFUL", None)


async def test_a_build_that_cannot_be_begun_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at_first(monkeypatch, world.plane.images, "begin_build", 1)
    fail_at_first(monkeypatch, world.plane.images, "finish_build")
    assert await build(world, succeed) == ("CREATE_FAILED", "FAILED", "INTERNAL_PLATFORM_ERROR")


@pytest.mark.parametrize("outcome", [succeed, break_down])
async def test_a_build_whose_end_cannot_be_stored_yet_is_settled_later(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    fail_at_first(monkeypatch, world.plane.images, "finish_build")
    assert (await build(world, outcome))[0] == ("CREATED" if outcome is succeed else "CREATE_FAILED")


async def test_a_server_that_starts_on_a_full_disk_settles_snapshots_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, version, build = unfinished_snapshot(world.plane)
    fail_at_first(monkeypatch, world.plane.images, "finish_build")
    world.plane._builder.resume_unfinished()
    await world.plane.settle()
    assert [found.state for found in world.plane.images.list_builds(image.id, version)] == ["FAILED"]
    assert build in {found.id for found in world.plane.images.list_builds(image.id, version)}


def unfinished_snapshot(plane: ControlPlane) -> tuple[Image, str, str]:
    """Store a snapshot of a microVM that a server which was killed was taking."""
    image, now = plane.add_image("web"), datetime.now(UTC)
    request = plane.images.list_versions(image.id)[0].request
    version = ImageVersion(image.id, "2.0", VersionState.PENDING, VersionStatus.INACTIVE, request, now, now)
    build = Build("build-2", image.id, "2.0", BuildState.PENDING, None, None, now)
    assert plane.images.add_version(version, build, None, taken_from="microvm-1")
    return image, "2.0", "build-2"


# --- deletions


async def test_an_image_whose_end_cannot_be_stored_yet_is_gone_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = world.plane.add_image("web")
    fail_at_first(monkeypatch, world.plane.images, "remove")
    await world.ok(MICROVMS, "DeleteMicrovmImage", imageIdentifier=image.arn)
    await world.plane.settle()
    assert world.plane.images.find(image.arn) is None


async def test_a_version_whose_end_cannot_be_stored_yet_is_gone_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = world.plane.add_image("web", versions=2)
    fail_at_first(monkeypatch, world.plane.images, "finish_deleting_version")
    await world.ok(MICROVMS, "DeleteMicrovmImageVersion", imageIdentifier=image.arn, imageVersion="1.0")
    await world.plane.settle()
    assert [version.version for version in world.plane.images.list_versions(image.id)] == ["2.0"]
    found = world.plane.images.find(image.arn)
    assert found is not None
    assert found.state == "UPDATED"


# --- connectors


async def test_a_connectors_state_is_stored_in_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("settle", "finish_update", "remove"):
        fail_at_first(monkeypatch, world.plane.connectors, name)
    arn = await make(world)
    assert (await get(world, arn))["State"] == "ACTIVE"
    await update(world, Configuration=configuration(("subnet-lab",), ()))
    await world.plane.settle()
    assert (await get(world, arn))["LastUpdateStatus"] == "Successful"
    await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn)
    await world.plane.settle()
    assert world.plane.connectors.find_by_arn(arn) is None


async def test_a_connector_whose_deletion_breaks_can_be_deleted_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = await make(world)

    async def break_down(_arn: str) -> None:
        raise KeyError("what nobody thought of")

    fail_at_first(monkeypatch, world.plane.connectors, "fail_deletion")
    monkeypatch.setattr(world.plane.connector_service, "_on_change", break_down)
    await world.ok(CORE, "DeleteNetworkConnector", Identifier=arn)
    await world.plane.settle()
    assert (await get(world, arn))["State"] == "DELETE_FAILED"


# --- microVMs


class StandInRunner:
    """Owns a microVM in name only."""

    def __init__(self, plane: ControlPlane, image: Image, problem: Exception | None = None) -> None:
        self.microvm = plane.add_microvm(image, MicrovmState.RUNNING)
        version = plane.images.find_version(image.id, "1.0")
        assert version is not None
        self.id, self.version, self.problem = self.microvm.id, version, problem
        self.stopped = self.renewed = 0
        any_engine: Any = SimpleNamespace(check_engine=lambda _engine: None)
        self.directory, self.checkpoints = plane.directory, LocalCheckpoints(any_engine, Places(plane.directory))
        self.context = SimpleNamespace(machine=plane.machine, checkpoints=self.checkpoints)
        self.meanwhile: Callable[[], None] = lambda: None
        plane.runners.add(self)  # type: ignore[arg-type]

    async def stop(self) -> None:
        await asyncio.sleep(0)
        self.stopped += 1
        if self.problem is not None:
            raise self.problem

    async def renew_egress(self) -> None:
        self.renewed += 1
        if self.problem is not None:
            raise self.problem

    async def take_checkpoint(self, name: str) -> float:
        self.meanwhile()
        await asyncio.sleep(0)
        self.checkpoints._taken[name] = make_image(self.directory / "builds" / name)
        return 0.01


async def test_a_microvm_that_cannot_be_stopped_does_not_keep_others_from_it(plane: ControlPlane) -> None:
    image = plane.add_image("web")
    problems: list[Exception | None] = [OSError(28, "full"), None, KeyError("unexpected"), *[None] * 5]
    runners = [StandInRunner(plane, image, problem) for problem in problems]
    await plane.runners.close()
    assert [runner.stopped for runner in runners] == [1] * len(problems)
    plane.runners._by_id.clear()


async def test_an_egress_that_cannot_be_changed_for_one_counts_for_the_others(plane: ControlPlane) -> None:
    image = plane.add_image("web")
    runners = [StandInRunner(plane, image, problem) for problem in (HostError("nft is gone"), None)]
    with pytest.raises(HostError, match="nft is gone"):
        await plane.runners.renew_egress(runners[0].microvm.request.egress[0])
    assert [runner.renewed for runner in runners] == [1, 1]
    plane.runners._by_id.clear()


# --- forks and snapshots


class Forks:
    """A fork service whose microVMs are only stored, and a log of what is put on stable storage before what."""

    def __init__(self, plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plane = plane
        tokens = ClientTokenStore(plane.database)
        self.service = ForkService(
            microvms=plane.microvm_service,
            launcher=plane.launcher,
            images=plane.images,
            client_tokens=tokens,
            builder=plane._builder,
            snapshots=LocalSnapshots(Places(plane.directory)),
            quotas=plane.access.quotas,
        )
        self.source = StandInRunner(plane, plane.add_image("web"))
        self.added: list[Microvm] = []
        self.log: list[str | Path] = []
        monkeypatch.setattr(plane.launcher, "launch", self._add)
        monkeypatch.setattr(disk, "sync", self.log.append)

    def _add(self, microvms: list[Microvm], token: Any) -> None:
        self.log.append("rows")
        self.added += microvms
        assert self.plane.microvms.add(microvms, token)

    async def fork(self, count: int = 2) -> Any:
        return await self.service.fork(CALLER, ForkMicrovm(self.source.id, count))

    def directories(self) -> list[Path]:
        return [*(self.plane.directory / "microvms").iterdir(), *(self.plane.directory / "builds").iterdir()]


@pytest.fixture
def forks(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> Any:
    forks = Forks(plane, monkeypatch)
    yield forks
    plane.runners._by_id.clear()


async def test_a_fork_knows_that_it_has_a_base_and_has_it_before_it_is_known(forks: Forks) -> None:
    await forks.fork()
    home = forks.plane.directory / "microvms"
    assert all(forks.plane.microvms.find(fork.id).own_base for fork in forks.added)  # type: ignore[union-attr]
    before = forks.log[: forks.log.index("rows")]
    for fork in forks.added:
        assert before.index(home / fork.id / "base") < before.index(home / fork.id) < before.index(home)


async def test_a_snapshot_is_where_it_belongs_before_it_is_told(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = forks.plane.images.finish_build

    def told(*args: Any, **kwargs: Any) -> None:
        forks.log.append("row")
        finish(*args, **kwargs)

    monkeypatch.setattr(forks.plane.images, "finish_build", told)
    answer = await forks.service.snapshot(CALLER, SnapshotMicrovm(forks.source.id))
    assert answer.version.state == "SUCCESSFUL"
    place = forks.plane.directory / "images" / forks.source.version.image_id / answer.version.version
    assert place.exists()
    assert forks.log.index(place.parent) < forks.log.index("row")


async def test_forks_that_others_have_left_no_memory_for_leave_nothing(forks: Forks) -> None:
    """The quota is checked again when the checkpoint has been taken: others are launched meanwhile."""
    image = forks.plane.images.find_by_id(forks.source.version.image_id)
    assert image is not None
    forks.plane.access.quotas._values[KEY.account_id, MEMORY] = 3 * 512
    forks.source.meanwhile = lambda: StandInRunner(forks.plane, image) and None
    with pytest.raises(QuotaExceededError):
        await forks.fork(2)
    assert not forks.added
    assert not forks.directories()


async def test_forks_come_to_be_though_who_asked_is_gone(forks: Forks) -> None:
    asking = asyncio.create_task(forks.fork())
    forks.source.meanwhile = asking.cancel  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await asking
    await forks.service.close()
    assert len(forks.added) == 2
    assert all(
        (forks.plane.directory / "microvms" / fork.id / "base" / "snapshot.json").exists() for fork in forks.added
    )


async def test_a_snapshot_comes_to_be_though_who_asked_is_gone(forks: Forks) -> None:
    asking = asyncio.create_task(forks.service.snapshot(CALLER, SnapshotMicrovm(forks.source.id)))
    forks.source.meanwhile = asking.cancel  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await asking
    await forks.service.close()
    newest = forks.plane.images.list_versions(forks.source.version.image_id)[0]
    assert (newest.version, newest.state) == ("2.0", "SUCCESSFUL")


@pytest.mark.parametrize("problem", [HostError("full"), OSError(28, "full"), KeyError("unexpected")])
async def test_a_snapshot_that_fails_in_whatever_way_has_failed(
    forks: Forks, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    async def fail(_name: str) -> Any:
        raise problem

    fail_at_first(monkeypatch, forks.plane.images, "finish_build")
    monkeypatch.setattr(forks.source, "take_checkpoint", fail)
    with pytest.raises(Exception):  # noqa: B017, PT011 - which is not what this is about
        await forks.service.snapshot(CALLER, SnapshotMicrovm(forks.source.id))
    newest = forks.plane.images.list_versions(forks.source.version.image_id)[0]
    assert newest.state == "FAILED"
