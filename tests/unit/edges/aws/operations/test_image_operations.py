"""The operations on images, as they are on the wire: every member that comes back, every refusal and their order."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.images.base import BuildLog, BuildPlan
from emberbox.model.arns import managed_connector_arn, managed_image_arn
from emberbox.model.errors import BuildError
from emberbox.model.images import emulated_architectures, takeable_architectures
from emberbox.model.records import Image
from emberbox.model.states import BuildState, ImageState, VersionState, VersionStatus
from emberbox.spec.models import MICROVMS
from support.api_world import World
from support.control_plane import ROLE, ControlPlane
from support.wire import KEY, REGION

BASE = managed_image_arn(REGION, "debian12-1")
AWS_BASE = managed_image_arn(REGION, "al2023-1")
INTERNET = managed_connector_arn(REGION, "INTERNET_EGRESS")
IMAGES = f"arn:aws:lambda:{REGION}:{KEY.account_id}:microvm-image"
NOT_ALLOWED = "User is not authorized to access this resource: "
NO_POLICY = (
    f"User: arn:aws:iam::{KEY.account_id}:user/admin is not authorized to perform: {{action}} on resource: {{arn}} "
    "because no resource-based policy allows the {action} action"
)
LEAST = {"baseImageArn": BASE, "buildRoleArn": ROLE, "codeArtifact": {"uri": "s3://code/key"}}
DEFAULTS = {
    "baseImageVersion": "1.0",
    "egressNetworkConnectors": [INTERNET],
    "resources": [{"minimumMemoryInMiB": 2048}],
}
RUNTIME = ("run", "resume", "suspend", "terminate")
WHOLE = {
    "description": "ünïcode",
    "logging": {"cloudWatch": {"logGroup": "/own", "logStream": "one"}},
    "egressNetworkConnectors": [INTERNET],
    "cpuConfigurations": [{"architecture": "X86_64"}, {"architecture": "X86_64"}],
    "resources": [{"minimumMemoryInMiB": 512}],
    "additionalOsCapabilities": ["ALL"],
    "hooks": {
        "port": 9000,
        "microvmHooks": dict.fromkeys(RUNTIME, "ENABLED") | {f"{name}TimeoutInSeconds": 60 for name in RUNTIME},
        "microvmImageHooks": {
            "ready": "ENABLED",
            "readyTimeoutInSeconds": 3600,
            "validate": "DISABLED",
            "validateTimeoutInSeconds": 1,
        },
    },
    "environmentVariables": {"B": "2", "A": "", "ü": "x"},
    **LEAST,
    "baseImageVersion": "1",
}


def told(answer: Any) -> Any:
    """Leave out what is null, at every depth."""
    if isinstance(answer, dict):
        return {name: told(value) for name, value in answer.items() if value is not None}
    return [told(item) for item in answer] if isinstance(answer, list) else answer


async def create(world: World, **more: Any) -> dict[str, Any]:
    return await world.ok(MICROVMS, "CreateMicrovmImage", **{"name": "web"} | LEAST | more)


async def refused(world: World, operation: str, **parameters: Any) -> tuple[int, str, str]:
    return await world.refused(MICROVMS, operation, **parameters)


def row(world: World, name: str = "web") -> Image:
    image = world.plane.images.find(f"{IMAGES}:{name}")
    assert image is not None
    return image


def seconds(moment: datetime) -> float:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000).timestamp()


def shown_image(image: Image) -> dict[str, Any]:
    return told(
        {
            "imageArn": image.arn,
            "id": image.id,
            "name": image.name,
            "state": image.state,
            "latestActiveImageVersion": image.latest_active_version,
            "latestFailedImageVersion": image.latest_failed_version,
            "createdAt": seconds(image.created_at),
            "updatedAt": seconds(image.updated_at),
        }
    )


# --- what is created and updated


FORMS: list[dict[str, Any]] = [
    {},
    WHOLE,
    {"baseImageArn": AWS_BASE, "baseImageVersion": "1"},
    {"description": ""},
    {"logging": {"disabled": {}}},
    {"logging": {"cloudWatch": {}}},
    {"logging": {"cloudWatch": {"logStream": "one"}}},
    {"egressNetworkConnectors": []},
    {"cpuConfigurations": []},
    {"resources": []},
    {"additionalOsCapabilities": []},
    {"additionalOsCapabilities": ["ALL", "ALL"]},
    {"hooks": {}},
    {"hooks": {"port": 1}},
    {"hooks": {"microvmHooks": {}, "microvmImageHooks": {}}},
    {"hooks": {"microvmHooks": {"suspendTimeoutInSeconds": 7}}},
    {"hooks": {"microvmImageHooks": {"validate": "ENABLED"}, "port": 65535}},
    {"environmentVariables": {}},
]


def expected(form: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of a request: what it says, with the defaults of what it does not say."""
    whole = LEAST | DEFAULTS | form
    for name in ("egressNetworkConnectors", "resources"):
        whole[name] = whole[name] or DEFAULTS[name]
    return whole | {"baseImageVersion": "1.0"}


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_request_is_shown_as_it_was_asked_with_its_defaults(world: World, form: dict[str, Any]) -> None:
    created = await create(world, **form)
    image = row(world)
    assert told(created) == {
        **shown_image(image), **expected(form), "imageVersion": "1.0", "state": "CREATING",
        "updatedAt": created["updatedAt"],
    }  # fmt: skip
    assert list(created) == [name for name in OUTPUT_ORDER if name in created]
    await world.plane.settle()
    found = await world.ok(MICROVMS, "GetMicrovmImageVersion", imageIdentifier=image.arn, imageVersion="1.0")
    version = world.plane.images.find_version(image.id, "1.0")
    assert version is not None
    assert told(found) == {
        **expected(form), "imageArn": image.arn, "imageVersion": "1.0", "state": "FAILED", "status": "INACTIVE",
        "createdAt": seconds(version.created_at), "updatedAt": seconds(version.updated_at),
        "versionStateTimeBucket": f"FAILED#{version.updated_at:%y%m%d%H}",
    }  # fmt: skip
    updated = await world.ok(MICROVMS, "UpdateMicrovmImage", imageIdentifier=image.arn, **LEAST | form)
    assert told(updated) == {
        **shown_image(row(world)), **expected(form), "imageVersion": "2.0", "state": "UPDATING",
        "updatedAt": updated["updatedAt"],
    }  # fmt: skip
    listed = await world.ok(MICROVMS, "ListMicrovmImageVersions", imageIdentifier=image.arn)
    assert [item["imageVersion"] for item in listed["items"]] == ["2.0", "1.0"]
    assert told(listed["items"][1]) == told(found)


OUTPUT_ORDER = [
    "imageArn", "name", "state", "latestActiveImageVersion", "latestFailedImageVersion", "createdAt", "baseImageArn",
    "baseImageVersion", "buildRoleArn", "description", "codeArtifact", "logging", "egressNetworkConnectors",
    "cpuConfigurations", "resources", "additionalOsCapabilities", "hooks", "environmentVariables", "kmsKeyIdentifier",
    "tags", "updatedAt", "imageVersion", "id", "buildPhaseOverrides", "roleConfiguration",
]  # fmt: skip


async def test_what_is_stored_of_a_request_has_the_form_of_before(world: World) -> None:
    await create(world, **WHOLE)
    with world.plane.database.reading() as connection:
        (stored,) = connection.exec_driver_sql("SELECT request FROM image_versions").scalars()
    assert stored == (
        '{"description": "\\u00fcn\\u00efcode", "logging": {"cloudWatch": {"logGroup": "/own", "logStream": "one"}}, '
        f'"egressNetworkConnectors": ["{INTERNET}"], '
        '"cpuConfigurations": [{"architecture": "X86_64"}, {"architecture": "X86_64"}], '
        '"resources": [{"minimumMemoryInMiB": 512}], "additionalOsCapabilities": ["ALL"], "hooks": {"port": 9000, '
        '"microvmHooks": {"run": "ENABLED", "runTimeoutInSeconds": 60, "resume": "ENABLED", '
        '"resumeTimeoutInSeconds": 60, "suspend": "ENABLED", "suspendTimeoutInSeconds": 60, "terminate": "ENABLED", '
        '"terminateTimeoutInSeconds": 60}, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 3600, '
        '"validate": "DISABLED", "validateTimeoutInSeconds": 1}}, "environmentVariables": {"B": "2", "A": "", '
        f'"\\u00fc": "x"}}, "baseImageArn": "{BASE}", "baseImageVersion": "1.0", "buildRoleArn": "{ROLE}", '
        '"codeArtifact": {"uri": "s3://code/key"}}'
    )


async def test_tags_are_shown_with_image_and_version(world: World) -> None:
    created = await create(world, tags={"team": "red", "a": ""})
    assert created["tags"] == {"team": "red", "a": ""}
    await world.plane.settle()
    arn = created["imageArn"]
    assert (await world.ok(MICROVMS, "GetMicrovmImage", imageIdentifier=arn))["tags"] == {"team": "red", "a": ""}
    found = await world.ok(MICROVMS, "GetMicrovmImageVersion", imageIdentifier=arn, imageVersion="1.0")
    assert found["tags"] == {"team": "red", "a": ""}
    assert (await create(world, name="bare"))["tags"] is None
    assert (await world.ok(MICROVMS, "GetMicrovmImage", imageIdentifier=f"{IMAGES}:bare"))["tags"] == {}


RULES: list[tuple[dict[str, Any], str]] = [
    ({"egressNetworkConnectors": ["x:y"]}, "Malformed network connector ARN"),
    (
        {"baseImageArn": "debian12-1"},
        "No managed MicroVM Image with arn debian12-1 and version 1 is available",
    ),
    (
        {"baseImageArn": f"{BASE}x", "baseImageVersion": "1.0"},
        f"No managed MicroVM Image with arn {BASE}x and version 1.0 is available",
    ),
    (
        {"baseImageArn": BASE.replace(REGION, "eu-west-9")},
        f"No managed MicroVM Image with arn {BASE.replace(REGION, 'eu-west-9')} and version 1 is available",
    ),
    (
        {"baseImageArn": BASE.replace("arn:aws:", "arn:aws-cn:")},
        f"No managed MicroVM Image with arn {BASE.replace('arn:aws:', 'arn:aws-cn:')} and version 1 is available",
    ),
    (
        {"baseImageVersion": "2"},
        f"No managed MicroVM Image with arn {BASE} and version 2 is available",
    ),
    (
        {"baseImageVersion": "1.0"},
        f"No managed MicroVM Image with arn {BASE} and version 1.0 is available",
    ),
    (
        {"resources": [{"minimumMemoryInMiB": 1000}]},
        (
            f"The requested memory size of 1000 MiB is not supported by base MicroVM image {BASE}. "
            "Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."
        ),
    ),
    (
        {"codeArtifact": {"uri": "s3://bucket"}},
        "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>",
    ),
    ({"environmentVariables": {"A": "", "AWS_REGION": ""}}, "Environment variable key 'AWS_REGION' is reserved"),
    (
        {"hooks": {"port": 1, "microvmHooks": {"run": "ENABLED"}, "microvmImageHooks": {"ready": "DISABLED"}}},
        (
            "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook "
            "(run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished "
            "initializing so the snapshot is taken in a ready state."
        ),
    ),
    (
        {"hooks": {"microvmImageHooks": {"validate": "ENABLED"}}},
        "The hooks port must be specified when any hook is enabled",
    ),
    (
        {"kmsKeyIdentifier": "alias/any"},
        "KMS keys are not available here. Leave kmsKeyIdentifier out.",
    ),
    ({"tags": {"AWS:x": ""}}, "Tag key 'AWS:x' is reserved: keys must not begin with aws:"),
]


@pytest.mark.parametrize(("parameters", "text"), RULES)
async def test_a_request_that_breaks_a_rule_is_refused(world: World, parameters: dict[str, Any], text: str) -> None:
    answer = await refused(world, "CreateMicrovmImage", **{"name": "web"} | LEAST | parameters)
    assert answer == (400, "ValidationException", text)
    if "tags" not in parameters:
        image = world.plane.add_image("web")
        answer = await refused(world, "UpdateMicrovmImage", imageIdentifier=image.arn, **LEAST | parameters)
        assert answer == (400, "ValidationException", text)


async def test_of_several_broken_rules_the_first_is_told(world: World) -> None:
    whole: dict[str, Any] = {}
    for parameters, text in reversed([rule for rule in RULES if "baseImageArn" not in rule[0]]):
        whole |= parameters
        answer = await refused(world, "CreateMicrovmImage", **{"name": "web"} | LEAST | whole)
        assert answer == (400, "ValidationException", text)


@pytest.fixture
def plans(world: World, monkeypatch: pytest.MonkeyPatch) -> list[BuildPlan]:
    """What is to be built; nothing is."""
    plans: list[BuildPlan] = []

    async def run(plan: BuildPlan, _log: BuildLog) -> None:
        plans.append(plan)
        raise BuildError("CONTAINER_BUILD_FAILED")

    monkeypatch.setattr(world.plane._builder, "_builds", SimpleNamespace(run=run))
    return plans


async def test_another_architecture_is_taken_as_this_machines_and_shown_as_it_was_asked_for(
    world: World, plans: list[BuildPlan]
) -> None:
    asked = {"cpuConfigurations": [{"architecture": "ARM_64"}]}
    created = await create(world, **asked)
    where = {"imageIdentifier": created["imageArn"]}
    await world.plane.settle()
    version = await world.ok(MICROVMS, "GetMicrovmImageVersion", **where, imageVersion="1.0")
    (listed,) = (await world.ok(MICROVMS, "ListMicrovmImageVersions", **where))["items"]
    for shown in (created, version, listed):
        assert shown["cpuConfigurations"] == asked["cpuConfigurations"]
    (build,) = (await world.ok(MICROVMS, "ListMicrovmImageBuilds", **where, imageVersion="1.0"))["items"]
    assert (build["architecture"], build["chipset"], build["chipsetGeneration"]) == ("X86_64", "INTEL", "1")
    assert (await world.ok(MICROVMS, "UpdateMicrovmImage", **where, **LEAST, **asked))["imageVersion"] == "2.0"
    await world.plane.settle()
    assert [plan.notes for plan in plans] == [
        (
            (
                "NOTE: ARM_64 was asked for, and the image is built for X86_64, which is what this machine has "
                "(EMBERBOX_ARM64=host): programs in the artifact that were compiled for ARM_64 do not run"
            ),
        )
    ] * 2


@pytest.mark.parametrize("asked", [None, [], ["X86_64"], ["X86_64", "X86_64"]])
async def test_an_image_for_this_machines_architecture_has_no_such_note(
    world: World, plans: list[BuildPlan], asked: list[str] | None
) -> None:
    await create(world, **({} if asked is None else {"cpuConfigurations": [{"architecture": one} for one in asked]}))
    await world.plane.settle()
    assert [plan.notes for plan in plans] == [()]


@pytest.fixture
async def arm_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A server that emulates AArch64; nothing is built."""
    monkeypatch.setattr(ControlPlane, "emulated", emulated_architectures("emulate"))
    (tmp_path / "arm").mkdir()
    plane = await ControlPlane(tmp_path / "arm", KEY, REGION).open()

    async def find_problem(name: str) -> str:
        return "" if name == "qemu-arm64" else f"no {name}"

    monkeypatch.setattr(plane.engines, "find_problem", find_problem)
    yield World(plane)
    await plane.close()


ARM, X86 = {"architecture": "ARM_64"}, {"architecture": "X86_64"}


@pytest.mark.parametrize(
    ("asked", "engine", "shown"),
    [
        ([ARM], "qemu-arm64", "ARM_64"),
        ([ARM, ARM], "qemu-arm64", "ARM_64"),
        ([ARM, X86], "", "X86_64"),
        ([X86], "", "X86_64"),
        ([], "", "X86_64"),
    ],
)
async def test_where_arm_is_emulated_a_version_is_for_what_it_asks_for(
    arm_world: World, monkeypatch: pytest.MonkeyPatch, asked: list[dict[str, str]], engine: str, shown: str
) -> None:
    plans: list[BuildPlan] = []

    async def run(plan: BuildPlan, _log: BuildLog) -> None:
        plans.append(plan)
        raise BuildError("CONTAINER_BUILD_FAILED")

    monkeypatch.setattr(arm_world.plane._builder, "_builds", SimpleNamespace(run=run))
    created = await create(arm_world, cpuConfigurations=asked)
    await arm_world.plane.settle()
    (plan,) = plans
    assert plan.engine == engine
    assert any("no security boundary" in note for note in plan.notes) == bool(engine)
    where = {"imageIdentifier": created["imageArn"], "imageVersion": "1.0"}
    (build,) = (await arm_world.ok(MICROVMS, "ListMicrovmImageBuilds", **where))["items"]
    assert build["architecture"] == shown
    for architecture in ("ARM_64", "X86_64"):
        listed = await arm_world.ok(MICROVMS, "ListMicrovmImageBuilds", **where, architecture=architecture)
        assert len(listed["items"]) == (architecture == shown)


async def test_a_dockerfile_may_choose_where_the_request_does_not(
    arm_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_choose: list[bool] = []

    async def run(plan: BuildPlan, _log: BuildLog) -> None:
        may_choose.append(plan.on_engine is not None)
        if plan.on_engine is not None:
            assert "emulated" in plan.on_engine("qemu-arm64")
        raise BuildError("CONTAINER_BUILD_FAILED")

    monkeypatch.setattr(arm_world.plane._builder, "_builds", SimpleNamespace(run=run))
    created = await create(arm_world)
    await arm_world.plane.settle()
    where = {"imageIdentifier": created["imageArn"]}
    (build,) = (await arm_world.ok(MICROVMS, "ListMicrovmImageBuilds", **where, imageVersion="1.0"))["items"]
    assert (build["architecture"], build["chipset"], build["chipsetGeneration"]) == ("ARM_64", "GRAVITON", "2")
    await arm_world.ok(MICROVMS, "UpdateMicrovmImage", **where, **LEAST, cpuConfigurations=[X86])
    await arm_world.plane.settle()
    assert may_choose == [True, False]


async def test_emulated_arm_is_no_other_engine(arm_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"cpuConfigurations": [ARM], "tags": {"emberbox:engine": "gvisor"}}
    status, _, text = await refused(arm_world, "CreateMicrovmImage", name="web", **LEAST, **asked)
    assert (status, "which the engine gvisor cannot do" in text) == (400, True)

    async def find_problem(_name: str) -> str:
        return "QEMU cannot be fetched"

    monkeypatch.setattr(arm_world.plane.engines, "find_problem", find_problem)
    status, _, text = await refused(arm_world, "CreateMicrovmImage", name="web", **LEAST, cpuConfigurations=[ARM])
    assert (status, text) == (400, "No MicroVM for ARM_64 can run here: QEMU cannot be fetched")


async def test_managed_images_list_what_is_emulated(arm_world: World) -> None:
    (shown,) = (await arm_world.ok(MICROVMS, "ListManagedMicrovmImageVersions", imageIdentifier=BASE))["items"]
    assert shown["supportedCpuConfigurations"] == [X86, ARM]


async def test_another_architecture_is_refused_where_the_operator_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlPlane, "architectures", takeable_architectures(others_too=False))
    (tmp_path / "strict").mkdir()
    plane = await ControlPlane(tmp_path / "strict", KEY, REGION).open()
    try:
        world, asked = World(plane), {"cpuConfigurations": [{"architecture": "X86_64"}, {"architecture": "ARM_64"}]}
        text = (
            "The architecture ARM_64 is not available on this machine. Available architectures are: [X86_64]. Leave "
            "cpuConfigurations out to take what there is, or have the operator set EMBERBOX_ARM64=host, which takes "
            "ARM_64 as that."
        )
        refusal = await refused(world, "CreateMicrovmImage", name="web", **LEAST, **asked)
        assert refusal == (400, "ValidationException", text)
        arn = plane.add_image("web").arn
        refusal = await refused(world, "UpdateMicrovmImage", imageIdentifier=arn, **LEAST, **asked)
        assert refusal == (400, "ValidationException", text)
    finally:
        await plane.close()


async def test_a_name_is_taken_once(world: World) -> None:
    await create(world)
    text = "A MicroVM image with the name 'web' already exists in this account"
    assert await refused(world, "CreateMicrovmImage", name="web", **LEAST) == (400, "ValidationException", text)


async def test_the_same_client_token_shows_the_first(world: World) -> None:
    first = await create(world, clientToken="one", tags={"a": "b"})
    assert (await create(world, clientToken="one", tags={"a": "b"}))["id"] == first["id"]
    reused = (409, "ConflictException", "The clientToken was used before with other parameters; use a new one.")
    other = {"name": "web", "clientToken": "one", "kmsKeyIdentifier": "alias/any", **LEAST}
    assert await refused(world, "CreateMicrovmImage", **other) == reused
    await world.plane.settle()
    arn = first["imageArn"]
    update = {"imageIdentifier": arn, "clientToken": "one", **LEAST}
    assert (await world.ok(MICROVMS, "UpdateMicrovmImage", **update))["imageVersion"] == "2.0"
    assert (await world.ok(MICROVMS, "UpdateMicrovmImage", **update))["imageVersion"] == "2.0"
    assert await refused(world, "UpdateMicrovmImage", **update | {"description": "x"}) == reused
    busy = (400, "ValidationException", f"Cannot update MicroVM Image in its current state: {arn}")
    assert await refused(world, "UpdateMicrovmImage", imageIdentifier=arn, **LEAST) == busy


# --- what is looked up


BY_IMAGE: dict[str, dict[str, Any]] = {
    "GetMicrovmImage": {},
    "UpdateMicrovmImage": LEAST | {"baseImageVersion": "7"},
    "DeleteMicrovmImage": {},
    "ListMicrovmImageVersions": {},
}
BY_VERSION: dict[str, dict[str, Any]] = {
    "GetMicrovmImageVersion": {},
    "UpdateMicrovmImageVersion": {"status": "ACTIVE"},
    "DeleteMicrovmImageVersion": {},
    "GetMicrovmImageBuild": {"buildId": "x"},
    "ListMicrovmImageBuilds": {},
}


@pytest.mark.parametrize("operation", [*BY_IMAGE, *BY_VERSION])
async def test_an_image_is_named_by_an_arn_of_the_callers(world: World, operation: str) -> None:
    world.plane.add_image("web")
    world.plane.add_image("theirs", account="999999999999")
    version = {"imageVersion": "1.0"} if operation in BY_VERSION else {}
    more = (BY_IMAGE | BY_VERSION)[operation] | version
    for identifier in ("web", "arn:aws:s3:::web", f"{IMAGES}:", BASE.replace("image:", "image.")):
        answer = await refused(world, operation, imageIdentifier=identifier, **more)
        assert answer[1:] in {
            ("ValidationException", f"Invalid ARN format: {identifier}"),
            ("AccessDeniedException", f"{NOT_ALLOWED}{identifier}"),
        }
        assert (identifier == "web") <= (answer[0] == 400)
    theirs = [f"{IMAGES}:{name}".replace(KEY.account_id, "999999999999") for name in ("web", "theirs")]
    for arn in (*theirs, f"{IMAGES}:web".replace(REGION, "eu-west-9"), f"{IMAGES}/web", BASE):
        answer = await refused(world, operation, imageIdentifier=arn, **more)
        text = f"{NOT_ALLOWED}{arn}"
        if arn in theirs and not operation.startswith("List"):  # listing is no right to a single image
            text = NO_POLICY.format(action=f"lambda:{operation}", arn=arn)
        assert answer == (403, "AccessDeniedException", text)
    for arn in (f"{IMAGES}:other", f"{IMAGES}:theirs", f"{IMAGES}:web".replace("arn:aws:", "arn:aws-cn:")):
        answer = await refused(world, operation, imageIdentifier=arn, **more)
        suffix = f"MicroVMImage: {arn}, Version: 1.0" if operation in BY_VERSION else f"MicroVMImageID: {arn}"
        assert answer == (404, "ResourceNotFoundException", f"MicroVMImage not found for {suffix}")


@pytest.mark.parametrize("operation", BY_VERSION)
async def test_a_version_that_there_is_not_is_named(world: World, operation: str) -> None:
    image = world.plane.add_image("web")
    more = BY_VERSION[operation] | {"imageIdentifier": image.arn, "imageVersion": "2.0"}
    text = f"MicroVMImage not found for MicroVMImage: {image.arn}, Version: 2.0"
    assert await refused(world, operation, **more) == (404, "ResourceNotFoundException", text)


@pytest.mark.parametrize("operation", BY_VERSION)
async def test_a_whole_number_in_a_path_names_a_version(world: World, operation: str) -> None:
    image = world.plane.add_image("web", versions=2)
    (build,) = world.plane.images.list_builds(image.id, "2.0")
    more = BY_VERSION[operation] | {"imageIdentifier": image.arn}
    if "buildId" in more:
        more["buildId"] = build.id
    answer = await world.ok(MICROVMS, operation, **more, imageVersion="2")
    shown = answer["items"][0] if "items" in answer else answer
    assert shown["imageVersion"] == "2.0"
    for other in ("3", "02", "2.00", "+2", "٢"):
        assert (await refused(world, operation, **more, imageVersion=other))[:2] == (404, "ResourceNotFoundException")


async def test_elsewhere_a_version_has_its_own_form_alone(world: World) -> None:
    image = world.plane.add_image("web")
    text = f"No active version found for MicroVM image {image.arn} and version 1"
    missing = (404, "ResourceNotFoundException", text)
    assert await refused(world, "RunMicrovm", imageIdentifier=image.arn, imageVersion="1") == missing


async def test_an_image_as_it_is(world: World) -> None:
    image = world.plane.add_image("web", versions=2)
    found = await world.ok(MICROVMS, "GetMicrovmImage", imageIdentifier=image.arn)
    assert found == {**shown_image(image), "latestFailedImageVersion": None, "tags": {}}
    assert (found["state"], found["latestActiveImageVersion"]) == ("UPDATED", "2.0")


async def test_images_are_listed_in_pages_and_filtered_afterwards(world: World) -> None:
    images = [world.plane.add_image(name) for name in ("one", "two", "three")]
    world.plane.add_image("theirs", account="999999999999")
    first = await world.ok(MICROVMS, "ListMicrovmImages", maxResults=2, nameFilter="t")
    newest = {**shown_image(images[2]), "latestFailedImageVersion": None}
    del newest["updatedAt"]
    assert first["items"][0] == newest
    assert [item["name"] for item in first["items"]] == ["three", "two"]
    rest = await world.ok(MICROVMS, "ListMicrovmImages", nameFilter="t", nextToken=first["nextToken"])
    assert rest == {"nextToken": None, "items": []}
    text = "Invalid nextToken: use the one that the page before gave, with the same operation"
    for operation in ("ListManagedMicrovmImages", "ListMicrovmImageVersions"):
        more = {"imageIdentifier": images[0].arn} if operation.endswith("Versions") else {}
        answer = await refused(world, operation, nextToken=first["nextToken"], **more)
        assert answer == (400, "ValidationException", text)


async def test_versions_are_listed_in_pages(world: World) -> None:
    image = world.plane.add_image("web", versions=3, team="red")
    first = await world.ok(MICROVMS, "ListMicrovmImageVersions", imageIdentifier=image.arn, maxResults=2)
    assert [item["imageVersion"] for item in first["items"]] == ["3.0", "2.0"]
    assert first["items"][0] == await world.ok(
        MICROVMS, "GetMicrovmImageVersion", imageIdentifier=image.arn, imageVersion="3.0"
    )
    rest = await world.ok(MICROVMS, "ListMicrovmImageVersions", imageIdentifier=image.arn, nextToken=first["nextToken"])
    assert [item["imageVersion"] for item in rest["items"]] == ["1.0"]
    assert rest["nextToken"] is None


async def test_builds_are_shown_and_filtered(world: World) -> None:
    created = await create(world)
    await world.plane.settle()
    image, where = row(world), {"imageIdentifier": created["imageArn"], "imageVersion": "1.0"}
    (build,) = world.plane.images.list_builds(image.id, "1.0")
    listed = await world.ok(MICROVMS, "ListMicrovmImageBuilds", **where)
    shown = {
        "imageArn": image.arn, "imageVersion": "1.0", "buildId": build.id, "buildState": "FAILED",
        "architecture": "X86_64", "chipset": "INTEL", "chipsetGeneration": "1", "stateReason": build.state_reason,
        "createdAt": seconds(build.created_at),
    }  # fmt: skip
    assert told(listed) == {"items": [shown]}
    found = await world.ok(MICROVMS, "GetMicrovmImageBuild", **where, buildId=build.id)
    assert told(found) == shown
    for name, same, other in [
        ("architecture", "X86_64", "ARM_64"),
        ("chipset", "INTEL", "GRAVITON"),
        ("chipsetGeneration", "1", "2"),
    ]:
        assert len((await world.ok(MICROVMS, "ListMicrovmImageBuilds", **where, **{name: same}))["items"]) == 1
        assert (await world.ok(MICROVMS, "ListMicrovmImageBuilds", **where, **{name: other}))["items"] == []
    text = "MicroVMImage build not found: other"
    answer = await refused(world, "GetMicrovmImageBuild", **where, buildId="other")
    assert answer == (404, "ResourceNotFoundException", text)


async def test_the_sizes_of_a_snapshot_are_shown_with_its_build(world: World) -> None:
    image = world.plane.add_image("web")
    (build,) = world.plane.images.list_builds(image.id, "1.0")
    where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    assert (await world.ok(MICROVMS, "GetMicrovmImageBuild", **where, buildId=build.id))["snapshotBuild"] is None
    sizes = {"memorySnapshotSizeInBytes": 1, "codeInstallSizeInBytes": 2, "diskSnapshotSizeInBytes": 3}
    with world.plane.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE builds SET sizes = ?", (json.dumps(sizes),))
    found = await world.ok(MICROVMS, "GetMicrovmImageBuild", **where, buildId=build.id)
    assert found["snapshotBuild"] == sizes
    assert list(found["snapshotBuild"]) == list(sizes)
    (listed,) = (await world.ok(MICROVMS, "ListMicrovmImageBuilds", **where))["items"]
    assert {**listed, "snapshotBuild": sizes, "terminationReasonCode": None} == {"terminationReasonCode": None, **found}


async def test_an_image_of_a_region_served_before_is_listed_but_not_reached(world: World) -> None:
    here = world.plane.add_image("web")
    world.plane.region = "eu-west-9"
    there = world.plane.add_image("web", team="red")
    world.plane.add_image("other")
    world.plane.region = REGION
    assert len((await world.ok(MICROVMS, "ListMicrovmImages"))["items"]) == 3
    assert (await world.ok(MICROVMS, "GetMicrovmImage", imageIdentifier=here.arn))["id"] == here.id
    assert (await world.ok(MICROVMS, "ListTags", Resource=here.arn))["Tags"] == {}
    missing = (404, "ResourceNotFoundException", f"MicroVMImage not found for MicroVMImageID: {IMAGES}:other")
    assert await refused(world, "GetMicrovmImage", imageIdentifier=f"{IMAGES}:other") == missing
    await world.ok(MICROVMS, "DeleteMicrovmImage", imageIdentifier=here.arn)
    await world.plane.settle()
    assert world.plane.images.find_by_id(here.id) is None
    assert world.plane.images.find_by_id(there.id) == there


async def test_managed_images_are_listed(world: World) -> None:
    listed = await world.ok(MICROVMS, "ListManagedMicrovmImages")
    assert [item["imageArn"] for item in listed["items"]] == [AWS_BASE, BASE]
    assert listed["nextToken"] is None
    since = listed["items"][0]["createdAt"]
    assert 0 <= datetime.now(UTC).timestamp() - since < 60
    assert listed["items"][0] == {"imageArn": AWS_BASE, "createdAt": since, "updatedAt": since}
    first = await world.ok(MICROVMS, "ListManagedMicrovmImages", maxResults=1)
    rest = await world.ok(MICROVMS, "ListManagedMicrovmImages", nextToken=first["nextToken"])
    assert [item["imageArn"] for item in rest["items"]] == [BASE]
    versions = await world.ok(MICROVMS, "ListManagedMicrovmImageVersions", imageIdentifier=BASE)
    shown = {"imageArn": BASE, "imageVersion": "1", "status": "AVAILABLE", "createdAt": since, "updatedAt": since}
    shown["supportedCpuConfigurations"] = [{"architecture": "X86_64"}]
    assert told(versions) == {"items": [shown]}
    for arn in ("debian12-1", f"{BASE}x", BASE.replace(REGION, "eu-west-9"), f"{IMAGES}:web"):
        answer = await refused(world, "ListManagedMicrovmImageVersions", imageIdentifier=arn)
        text = f"MicroVMImage not found for MicroVMImageID: {arn}"
        assert answer == (404, "ResourceNotFoundException", text)


# --- what is changed and deleted


async def test_a_version_can_be_made_inactive(world: World) -> None:
    image = world.plane.add_image("web")
    where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    before = await world.ok(MICROVMS, "GetMicrovmImageVersion", **where)
    answer = await world.ok(MICROVMS, "UpdateMicrovmImageVersion", **where, status="INACTIVE")
    moving = ("status", "updatedAt", "versionStateTimeBucket")
    assert {name: value for name, value in answer.items() if name not in moving} == {
        name: value for name, value in before.items() if name not in moving
    }
    assert answer["status"] == "INACTIVE"
    assert answer["versionStateTimeBucket"].startswith("SUCCESSFUL#")


async def test_a_failed_version_cannot_be_made_active(world: World) -> None:
    created = await create(world)
    await world.plane.settle()
    where = {"imageIdentifier": created["imageArn"], "imageVersion": "1.0"}
    text = "MicroVM image version 1.0 is in state FAILED; only a SUCCESSFUL version can be made ACTIVE"
    answer = await refused(world, "UpdateMicrovmImageVersion", **where, status="ACTIVE")
    assert answer == (400, "ValidationException", text)


async def test_an_image_and_a_version_are_deleted(world: World) -> None:
    image = world.plane.add_image("web", versions=2)
    where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    answer = await world.ok(MICROVMS, "DeleteMicrovmImageVersion", **where)
    assert answer == {**where, "state": "DELETING"}
    assert await world.ok(MICROVMS, "DeleteMicrovmImageVersion", **where) == answer
    busy = (409, "ConflictException", "MicroVM Image is already in state: UPDATING")
    other = where | {"imageVersion": "2.0"}
    assert await refused(world, "DeleteMicrovmImageVersion", **other) == busy
    assert await refused(world, "UpdateMicrovmImageVersion", **other, status="INACTIVE") == busy
    busy = (400, "ValidationException", f"Cannot delete MicroVM image in its current state: {image.arn}")
    assert await refused(world, "DeleteMicrovmImage", imageIdentifier=image.arn) == busy
    await world.plane.settle()
    assert (await world.ok(MICROVMS, "GetMicrovmImageVersion", **other))["status"] == "ACTIVE"
    last = "This is the last version. Please delete the entire image"
    refusal = await refused(world, "DeleteMicrovmImageVersion", **where | {"imageVersion": "2.0"})
    assert refusal == (400, "ValidationException", last)
    answer = await world.ok(MICROVMS, "DeleteMicrovmImage", imageIdentifier=image.arn)
    assert answer == {"imageIdentifier": image.arn, "state": "DELETING"}
    assert await world.ok(MICROVMS, "DeleteMicrovmImage", imageIdentifier=image.arn) == answer
    await world.plane.settle()
    assert world.plane.images.find(image.arn) is None


async def test_what_runs_is_not_deleted(world: World) -> None:
    image = world.plane.add_image("web", versions=2)
    await world.ok(MICROVMS, "RunMicrovm", imageIdentifier=image.arn, imageVersion="1.0")
    text = "Cannot delete microvm image with running microvms."
    assert (await refused(world, "DeleteMicrovmImage", imageIdentifier=image.arn))[2] == text
    text = "Cannot delete microvm image version with running microvms."
    where = {"imageIdentifier": image.arn, "imageVersion": "1.0"}
    assert (await refused(world, "DeleteMicrovmImageVersion", **where))[2] == text


async def test_states_are_those_of_the_rows(world: World) -> None:
    created = await create(world)
    assert (created["state"], row(world).state) == ("CREATING", ImageState.CREATING)
    version = world.plane.images.find_version(created["id"], "1.0")
    assert version is not None
    assert (version.state, version.status) == (VersionState.PENDING, VersionStatus.INACTIVE)
    (build,) = world.plane.images.list_builds(created["id"], "1.0")
    assert build.state is BuildState.PENDING
