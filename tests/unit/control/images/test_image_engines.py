"""The engine that an image chooses by its tag: when it is refused, and which versions it counts for."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.control.requests.tags import ENGINE_TAG
from emberbox.images.base import BuildPlan
from emberbox.model.arns import managed_image_arn
from emberbox.model.states import ImageState
from emberbox.spec.models import MICROVMS
from support.api_world import World
from support.control_plane import ROLE
from support.wire import REGION

LEAST: dict[str, Any] = {
    "baseImageArn": managed_image_arn(REGION, "debian12-1"),
    "buildRoleArn": ROLE,
    "codeArtifact": {"uri": "s3://code/key"},
}
REFUSED = (
    f"No MicroVM can run on the engine gvisor here, which the tag '{ENGINE_TAG}' asks for: {{problem}}. "
    "Leave the tag out for the server's own engine"
)


class Engines:
    """What a machine has."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.asked: list[str] = []

    async def find_problem(self, name: str) -> str:
        self.asked.append(name)
        return self.problem


def use(world: World, patch: pytest.MonkeyPatch, problem: str = "") -> Engines:
    engines = Engines(problem)
    control = world.plane.control
    for service in (control.images, control.versions, control.tags):
        patch.setattr(service, "_engines", engines)
    return engines


def plans_of(world: World, patch: pytest.MonkeyPatch) -> list[BuildPlan]:
    """Let nothing be built; return what would be."""
    plans: list[BuildPlan] = []
    builder = world.plane.control.builder
    patch.setattr(builder, "start", lambda *build: plans.append(builder._plan(*build)))
    return plans


async def test_it_is_refused_where_it_cannot_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, plans = use(world, monkeypatch, "there is no runsc"), plans_of(world, monkeypatch)
    refused = (400, "ValidationException", REFUSED.format(problem="there is no runsc"))
    tags = {ENGINE_TAG: "gvisor"}
    assert await world.refused(MICROVMS, "CreateMicrovmImage", name="web", **LEAST, tags=tags) == refused
    image = world.plane.add_image("web")
    assert await world.refused(MICROVMS, "TagResource", Resource=image.arn, Tags=tags) == refused
    world.plane.images.set_tags(image.id, tags)  # it could be run when it was tagged
    assert await world.refused(MICROVMS, "UpdateMicrovmImage", imageIdentifier=image.arn, **LEAST) == refused
    assert engines.asked == ["gvisor"] * 3
    answer = await world.send(MICROVMS, "TagResource", Resource=image.arn, Tags={"other": "tag"})
    assert answer.status == 204
    assert plans == []


async def test_a_server_with_one_engine_says_so(world: World) -> None:
    refused = await world.refused(
        MICROVMS, "CreateMicrovmImage", name="web", **LEAST, tags={ENGINE_TAG: "gvisor"}
    )  # fmt: skip
    assert refused[2] == REFUSED.format(problem="this server has no engine gvisor")


@pytest.mark.parametrize("value", ["", "xen", "QEMU"])
async def test_a_value_that_is_none_is_refused_with_those_that_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    engines = use(world, monkeypatch)
    text = f"The value '{value}' of the tag '{ENGINE_TAG}' must be qemu or gvisor"
    tags = {ENGINE_TAG: value}
    assert await world.refused(MICROVMS, "CreateMicrovmImage", name="web", **LEAST, tags=tags) == (
        400, "ValidationException", text,
    )  # fmt: skip
    image = world.plane.add_image("web")
    assert (await world.refused(MICROVMS, "TagResource", Resource=image.arn, Tags=tags))[2] == text
    assert engines.asked == []


async def test_a_version_is_built_for_the_tag_of_its_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    use(world, monkeypatch)
    plans, images = plans_of(world, monkeypatch), world.plane.images
    created = await world.ok(MICROVMS, "CreateMicrovmImage", name="web", **LEAST, tags={ENGINE_TAG: "gvisor"})
    arn = created["imageArn"]
    assert plans[-1].engine == "gvisor"
    image = next(one for one in images.list_page(world.plane.credential.account_id, 10, None) if one.arn == arn)
    await world.send(MICROVMS, "UntagResource", Resource=arn, TagKeys=[ENGINE_TAG])
    stored = images.find_version(image.id, "1.0")
    assert stored is not None
    assert stored.request.engine == "gvisor"  # a build that the next server begins again is of the same one
    images.finish_build(images.list_builds(image.id, "1.0")[0], image.created_at, reason="no", sizes=None)
    await world.ok(MICROVMS, "UpdateMicrovmImage", imageIdentifier=arn, **LEAST)
    assert plans[-1].engine == ""
    assert images.find_by_id(image.id).state is ImageState.UPDATING  # type: ignore[union-attr]


async def test_who_does_not_choose_asks_for_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, plans = use(world, monkeypatch, "it would fail"), plans_of(world, monkeypatch)
    await world.ok(MICROVMS, "CreateMicrovmImage", name="web", **LEAST)
    assert (engines.asked, plans[-1].engine) == ([], "")
