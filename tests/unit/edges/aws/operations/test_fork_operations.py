"""SnapshotMicrovm, ForkMicrovm and RestoreMicrovm as they are on the wire; the microVM has an owner in name only."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.machine.local import LocalCheckpoints, Places
from emberbox.model.records import Image, Microvm
from emberbox.model.states import MicrovmState
from emberbox.spec.models import EMBERBOX
from support.api_world import World
from support.fake_machine import make_image
from support.wire import REGION


class Source:
    """A microVM that runs."""

    def __init__(self, world: World) -> None:
        plane = world.plane
        self.places = Places(plane.directory)
        self.checkpoints = LocalCheckpoints(
            SimpleNamespace(check_engine=lambda _engine: None),  # type: ignore[arg-type]
            self.places,
        )
        self.context = SimpleNamespace(checkpoints=self.checkpoints, machine=plane.machine)
        self.image: Image = plane.add_image("web")
        self.microvm = plane.add_microvm(self.image, MicrovmState.RUNNING)
        version = plane.images.find_version(self.image.id, "1.0")
        assert version is not None
        self.id, self.version = self.microvm.id, version
        self.rolled_back = 0

    async def take_checkpoint(self, name: str) -> float:
        self.checkpoints._taken[name] = make_image(self.places.scratch(name))
        return 0.0126

    async def roll_back(self, _version: str) -> None:
        self.rolled_back += 1


@pytest.fixture
def source(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    source = Source(world)
    world.plane.runners.add(source)  # type: ignore[arg-type]

    def store(microvms: list[Microvm], token: Any) -> None:
        assert world.plane.microvms.add(microvms, token)

    monkeypatch.setattr(world.plane.launcher, "launch", store)
    yield source
    world.plane.runners.forget(source.id)


async def test_a_snapshot_is_shown_with_the_time_that_it_took(world: World, source: Source) -> None:
    asked = {"microvmIdentifier": source.id, "clientToken": "one"}
    shown = {"imageArn": source.image.arn, "imageVersion": "2.0", "state": "SUCCESSFUL", "status": "ACTIVE"}
    answer = await world.ok(EMBERBOX, "SnapshotMicrovm", **asked)
    assert answer == {**shown, "sourceStoppedInMilliseconds": 13}
    assert await world.ok(EMBERBOX, "SnapshotMicrovm", **asked) == shown
    inactive = await world.ok(EMBERBOX, "SnapshotMicrovm", microvmIdentifier=source.id, status="INACTIVE")
    assert inactive == shown | {"imageVersion": "3.0", "status": "INACTIVE", "sourceStoppedInMilliseconds": 13}


async def test_forks_are_shown_with_where_they_are(world: World, source: Source) -> None:
    asked = {"microvmIdentifier": source.id, "count": 2, "clientToken": "one", "runHookPayload": ""}
    answer = await world.ok(EMBERBOX, "ForkMicrovm", **asked)
    stored = [world.plane.microvms.find(item["microvmId"]) for item in answer["items"]]
    assert answer == {
        "items": [
            {
                "microvmId": fork and fork.id,
                "endpoint": f"{fork and fork.endpoint_label}.lambda-microvm.{REGION}.localhost",
                "state": "PENDING",
            }
            for fork in stored
        ],
        "sourceStoppedInMilliseconds": 13,
    }
    assert len({item["microvmId"] for item in answer["items"]} - {source.id}) == 2
    assert [fork and fork.request.hook_payload for fork in stored] == ["", ""]
    assert await world.ok(EMBERBOX, "ForkMicrovm", **asked) == {"items": answer["items"]}
    assert len((await world.ok(EMBERBOX, "ForkMicrovm", microvmIdentifier=source.id))["items"]) == 1


async def test_the_token_of_forks_counts_until_the_last_is_told_of_no_more(world: World, source: Source) -> None:
    asked = {"microvmIdentifier": source.id, "count": 2, "clientToken": "one"}
    first, second = (await world.ok(EMBERBOX, "ForkMicrovm", **asked))["items"]
    _forget(world, first["microvmId"])
    assert (await world.ok(EMBERBOX, "ForkMicrovm", **asked))["items"] == [second]
    _forget(world, second["microvmId"])
    anew = (await world.ok(EMBERBOX, "ForkMicrovm", **asked))["items"]
    assert {item["microvmId"] for item in anew}.isdisjoint({first["microvmId"], second["microvmId"]})


def _forget(world: World, microvm_id: str) -> None:
    with world.plane.database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM microvms WHERE id = ?", (microvm_id,))


async def test_the_token_of_a_snapshot_that_is_gone_takes_another(world: World, source: Source) -> None:
    asked = {"microvmIdentifier": source.id, "clientToken": "one"}
    assert (await world.ok(EMBERBOX, "SnapshotMicrovm", **asked))["imageVersion"] == "2.0"
    await world.ok(EMBERBOX, "SnapshotMicrovm", microvmIdentifier=source.id)
    version = {"imageIdentifier": source.image.arn, "imageVersion": "2.0"}
    await world.ok("lambda-microvms", "DeleteMicrovmImageVersion", **version)
    await world.plane.settle()
    assert (await world.ok(EMBERBOX, "SnapshotMicrovm", **asked))["imageVersion"] == "4.0"


async def test_a_fork_has_the_payload_of_its_source_unless_it_is_given_one(world: World, source: Source) -> None:
    refusal = "The run hook must be enabled in the MicroVM image to pass the run hook payload"
    answer = await world.refused(EMBERBOX, "ForkMicrovm", microvmIdentifier=source.id, runHookPayload="x")
    assert answer == (400, "ValidationException", refusal)


async def test_a_microvm_is_only_restored_to_a_snapshot_of_its_own(world: World, source: Source) -> None:
    answer = await world.refused(EMBERBOX, "RestoreMicrovm", microvmIdentifier=source.id, imageVersion="1.0")
    text = f"imageVersion 1.0 was not made from the MicroVM {source.id} by SnapshotMicrovm; those that were: "
    assert answer == (400, "ValidationException", f"{text}none")
    await world.ok(EMBERBOX, "SnapshotMicrovm", microvmIdentifier=source.id)
    answer = await world.refused(EMBERBOX, "RestoreMicrovm", microvmIdentifier=source.id, imageVersion="1.0")
    assert answer == (400, "ValidationException", f"{text}2.0")
    assert await world.ok(EMBERBOX, "RestoreMicrovm", microvmIdentifier=source.id, imageVersion="2.0") == {}
    assert source.rolled_back == 1


@pytest.mark.parametrize("operation", ["SnapshotMicrovm", "ForkMicrovm", "RestoreMicrovm"])
async def test_nothing_is_made_of_what_has_ended(world: World, operation: str) -> None:
    ended = world.plane.add_microvm(world.plane.add_image("web")).id
    more = {"imageVersion": "1.0"} if operation == "RestoreMicrovm" else {}
    answer = await world.refused(EMBERBOX, operation, microvmIdentifier=ended, **more)
    assert answer[2] == f"The MicroVM {ended} has been terminated and its state cannot be changed."
    answer = await world.refused(EMBERBOX, operation, microvmIdentifier="microvm-x", **more)
    assert answer[1:] == ("ResourceNotFoundException", "MicroVM not found: microvm-x")
