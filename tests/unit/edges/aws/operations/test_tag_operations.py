"""The operations on tags, as they are on the wire: every refusal's text."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.spec.models import CORE, MICROVMS
from support.api_world import World
from support.control_plane import ROLE
from support.wire import KEY, REGION

HERE = f"arn:aws:lambda:{REGION}:{KEY.account_id}"
THERE = HERE.replace("arn:aws:", "arn:aws-cn:")
OPERATIONS: dict[str, dict[str, Any]] = {
    "TagResource": {"Tags": {"aws:x": ""}},
    "UntagResource": {"TagKeys": ["x"]},
    "ListTags": {},
}


async def make_connector(world: World) -> str:
    configuration = {
        "SubnetIds": ["subnet-office"],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    }
    made = await world.ok(
        CORE, "CreateNetworkConnector", Name="office", OperatorRole=ROLE, ClientToken="first",
        Configuration={"VpcEgressConfiguration": configuration},
    )  # fmt: skip
    return str(made["Arn"])


@pytest.mark.parametrize("kind", ["image", "connector"])
async def test_tags_are_merged_and_removed(world: World, kind: str) -> None:
    arn = world.plane.add_image("web").arn if kind == "image" else await make_connector(world)

    async def tags() -> dict[str, str]:
        answer = await world.ok(MICROVMS, "ListTags", Resource=arn)
        assert set(answer) == {"Tags"}
        return dict(answer["Tags"])

    assert await tags() == {}
    for change in ({"a": "1", "b": ""}, {"b": "2"}):
        answer = await world.send(MICROVMS, "TagResource", Resource=arn, Tags=change)
        assert (answer.status, answer.body) == (204, b"")
    assert await tags() == {"a": "1", "b": "2"}
    answer = await world.send(MICROVMS, "UntagResource", Resource=arn, TagKeys=["b", "c"])
    assert (answer.status, answer.body) == (204, b"")
    assert await tags() == {"a": "1"}
    refused = await world.refused(MICROVMS, "TagResource", Resource=arn, Tags={"c": "", "aws:x": ""})
    assert refused == (400, "ValidationException", "Tag key 'aws:x' is reserved: keys must not begin with aws:")
    many = {str(number): "" for number in range(50)}
    text = "A resource can have at most 50 tags; this one would have 51"
    assert await world.refused(MICROVMS, "TagResource", Resource=arn, Tags=many) == (400, "ValidationException", text)
    assert await tags() == {"a": "1"}


def not_allowed(operation: str, arn: str) -> str:
    return (
        f"User: arn:aws:iam::{KEY.account_id}:user/admin is not authorized to perform: lambda:{operation} "
        f"on resource: {arn} because no resource-based policy allows the lambda:{operation} action"
    )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("arn", "status", "text"),
    [
        (f"{HERE}:microvm-image:other", 404, "MicroVMImage not found for MicroVMImageID: {arn}"),
        (f"{THERE}:microvm-image:web", 404, "MicroVMImage not found for MicroVMImageID: {arn}"),
        (f"{HERE}:microvm-image:{'x' * 65}", 403, "User is not authorized to access this resource: {arn}"),
        (f"{HERE}:network-connector:other", 404, "Network connector not found for: {arn}"),
        (f"{THERE}:network-connector:other", 404, "Network connector not found for: {arn}"),
        (f"{HERE}:function:x", 400, "Only images and network connectors have tags here, not a function: {arn}"),
    ],
)
async def test_what_has_no_tags_is_refused(world: World, operation: str, arn: str, status: int, text: str) -> None:
    world.plane.add_image("web")
    answer = await world.refused(MICROVMS, operation, Resource=arn, **OPERATIONS[operation])
    assert (answer[0], answer[2]) == (status, text.format(arn=arn))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["microvm-image", "network-connector"])
async def test_anothers_tags_are_not_seen(world: World, operation: str, kind: str) -> None:
    arn = f"{HERE}:{kind}:web".replace(KEY.account_id, "999999999999")
    answer = await world.refused(MICROVMS, operation, Resource=arn, **OPERATIONS[operation])
    assert (answer[0], answer[2]) == (403, not_allowed(operation, arn))
    arn = f"{HERE}:{kind}:web".replace(REGION, "eu-west-9")
    answer = await world.refused(MICROVMS, operation, Resource=arn, **OPERATIONS[operation])
    assert (answer[0], answer[2]) == (403, f"User is not authorized to access this resource: {arn}")
