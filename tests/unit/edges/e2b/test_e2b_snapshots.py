"""E2B's own SDK against the edge: snapshots."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from e2b import Sandbox, SandboxException

from emberbox.model.sizes import SnapshotSizes
from support.e2b_world import E2bPlane
from support.waiting import wait_for_async

Wait = Callable[..., Any]


@pytest.fixture(autouse=True)
def files(e2b: E2bPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake machine has no files: their sizes are made up, and nothing is removed."""

    async def remove(*_: Any) -> bool:
        return True

    snapshots = SimpleNamespace(sizes=lambda *_: SnapshotSizes(1, 1, 1), remove=remove)
    control = e2b.control
    for service in (control.forks, control.versions, control.images):
        monkeypatch.setattr(service, "_snapshots", snapshots)


async def test_a_snapshot_is_launched_only_where_it_is_named(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    taken = await wait(sandbox.create_snapshot)

    assert taken.snapshot_id == "standard:2.0"
    for name, version in ((taken.snapshot_id, "2.0"), ("standard", "1.0"), ("standard:latest", "1.0")):
        made = await wait(Sandbox.create, name)
        microvm = e2b.microvms.find(made.sandbox_id)
        assert microvm is not None
        assert microvm.image_version == version


async def test_snapshots_are_listed_and_deleted(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    ids = [(await wait(sandbox.create_snapshot)).snapshot_id for _ in range(3)]
    other = await wait(Sandbox.create)

    def pages(**asked: Any) -> list[list[str]]:
        paginator = Sandbox.list_snapshots(**asked)
        found = []
        while paginator.has_next:
            found.append([item.snapshot_id for item in paginator.next_items()])
        return found

    assert await wait(pages) == [ids]
    assert await wait(lambda: pages(limit=2)) == [ids[:2], ids[2:]]
    assert await wait(lambda: pages(sandbox_id=other.sandbox_id)) == [[]]
    assert await wait(Sandbox.delete_snapshot, ids[0])
    await wait_for_async("it is deleted", lambda: len(e2b.images.list_versions(_image(e2b))) == 3)
    assert not await wait(Sandbox.delete_snapshot, ids[0])
    assert await wait(pages) == [ids[1:]]


def _image(e2b: E2bPlane) -> str:
    found = e2b.images.find_named(e2b.credential.account_id, "standard", e2b.region)
    assert found is not None
    return found.id


async def test_what_is_no_snapshot_is_not_deleted(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    assert not await wait(Sandbox.delete_snapshot, "standard:1.0")
    with pytest.raises(SandboxException, match="DeleteMicrovmImage"):
        await wait(Sandbox.delete_snapshot, "standard")
    with pytest.raises(SandboxException, match="standard is a template"):
        await wait(lambda: sandbox.create_snapshot(name="standard"))


async def test_a_snapshot_has_the_name_that_it_was_given(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    first = await wait(lambda: sandbox.create_snapshot(name="mine"))
    tagged = await wait(lambda: sandbox.create_snapshot(name="mine:v2"))
    assert (first.snapshot_id, tagged.snapshot_id) == ("mine:default", "mine:v2")
    for name, version in (("mine", "2.0"), ("mine:v2", "3.0")):
        microvm = e2b.microvms.find((await wait(Sandbox.create, name)).sandbox_id)
        assert microvm is not None
        assert microvm.image_version == version
    again = await wait(lambda: sandbox.create_snapshot(name="mine"))
    microvm = e2b.microvms.find((await wait(Sandbox.create, "mine")).sandbox_id)
    assert microvm is not None
    assert (again.snapshot_id, microvm.image_version) == ("mine:default", "4.0")


async def test_launches_of_aws_never_begin_with_a_snapshot(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    await wait(sandbox.create_snapshot)
    image = e2b.images.find_named(e2b.credential.account_id, "standard", e2b.region)
    assert image is not None
    assert image.latest_active_version == "1.0"
    snapshot = e2b.images.find_version(image.id, "2.0")
    assert snapshot is not None
    assert snapshot.status == "INACTIVE"
