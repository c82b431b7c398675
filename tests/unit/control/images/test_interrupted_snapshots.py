"""Image versions that are snapshots of microVMs, when the server ended while one was taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from emberbox.control.images.builder import SERVER_ENDED, Builder
from emberbox.machine.local import LocalSnapshots, Places
from emberbox.model.image_requests import ImageRequest
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.states import BuildState, ImageState, VersionState, VersionStatus
from emberbox.store.database import Database
from emberbox.store.images import ImageStore
from emberbox.store.schema import metadata
from emberbox.vmm.base import MachineShape
from support.snapshots import image_snapshot

NOW = datetime.now(UTC)
REQUEST = ImageRequest("us-east-1", "base", "1.0", "role", "s3://x/y", 512, ())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """An image with a built version, and a version of which a microVM's snapshot was being taken."""
    database = Database(f"sqlite:///{tmp_path / 'db'}", metadata)
    store = ImageStore(database)
    image = Image("i", "000000000000", "n", "arn", ImageState.CREATING, None, None, {}, NOW, NOW)
    for number, taken_from in ((1, None), (2, "microvm-1")):
        name = f"{number}.0"
        version = ImageVersion("i", name, VersionState.PENDING, VersionStatus.INACTIVE, REQUEST, NOW, NOW)
        build = Build(f"b{number}", "i", name, BuildState.PENDING, None, None, NOW)
        if taken_from is None:
            assert store.add(image, version, build, None)
            store.begin_build(build, NOW)
            store.finish_build(build, NOW)
        else:
            assert store.add_version(version, build, None, taken_from)
            store.begin_build(build, NOW)
    yield store
    database.close()


async def resume(store: ImageStore, home: Path) -> tuple[VersionState, str | None]:
    """Begin as a server does, and return what became of the snapshot."""
    builder = Builder(store, None, LocalSnapshots(Places(home)), None, None, None, "us-east-1", 1)  # type: ignore[arg-type]
    builder.resume_unfinished()
    await builder._background.close(patience_s=10)
    version, (build,) = store.find_version("i", "2.0"), store.list_builds("i", "2.0")
    assert version is not None
    return version.state, build.state_reason


async def test_its_instant_is_past_so_it_has_failed_and_the_image_is_as_before(
    store: ImageStore, tmp_path: Path
) -> None:
    assert await resume(store, tmp_path) == (VersionState.FAILED, SERVER_ENDED)
    image = store.find_by_id("i")
    assert image is not None
    assert (image.state, image.latest_active_version) == (ImageState.UPDATE_FAILED, "1.0")
    assert store.is_launchable("i", "1.0")


async def test_one_that_was_complete_is_successful(store: ImageStore, tmp_path: Path) -> None:
    directory = tmp_path / "images" / "i" / "2.0"
    directory.mkdir(parents=True)
    for name in ("root.erofs", "disk", "memory", "devices"):
        (directory / name).write_bytes(bytes(4096))
    image_snapshot(directory, MachineShape(1, 1)).publish()
    assert await resume(store, tmp_path) == (VersionState.SUCCESSFUL, None)
    assert store.list_taken_from("microvm-1") == ["2.0"]


async def test_a_deleted_version_is_nobodys_checkpoint(store: ImageStore, tmp_path: Path) -> None:
    await resume(store, tmp_path)
    assert store.begin_to_delete_version("i", "2.0", NOW)
    store.finish_deleting_version("i", "2.0", NOW, removed=True)
    assert store.list_taken_from("microvm-1") == []
    assert not store.is_checkpoint("i", "2.0")
