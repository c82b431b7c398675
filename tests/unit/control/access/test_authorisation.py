"""Who may do what: the denials, what is closed to other accounts, and what any edge can ask."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from emberbox.control.access.authorisation import AccessRequest, Permission
from emberbox.edges.forwarded import Forwarded
from emberbox.model.errors import AccessDeniedError
from emberbox.model.records import Image, LogGroup
from emberbox.spec.models import CORE, EMBERBOX, LOGS, MICROVMS
from support.wire import signed_operation

from .access_world import OPERATOR, REGION, RefusedError, World, allow, connector, deny, start_world

FIRST, SECOND = "111111111111", "222222222222"
IMAGE = f"arn:aws:lambda:{REGION}:{FIRST}:microvm-image:web"
ROLE = f"arn:aws:iam::{FIRST}:role/build"

PASS, PASS_ROLE = "lambda:PassNetworkConnector", "iam:PassRole"
ANN = {"aws:username": "ann"}


@pytest.fixture
async def first(world: World) -> Any:
    """The admin of an account of its own."""
    return await world.new_account(FIRST)


@pytest.fixture
async def image(world: World, first: Any) -> Image:
    return world.add_image(FIRST, "web", team="red")


async def test_a_user_without_a_policy_may_do_nothing(world: World, first: Any, image: Image) -> None:
    user = await world.new_user(first, "ann")
    microvm = world.add_microvm(image)
    requests: list[tuple[str, str, dict[str, Any]]] = [
        (MICROVMS, "GetMicrovm", {"microvmIdentifier": microvm.id}),
        (MICROVMS, "ListMicrovms", {}),
        (MICROVMS, "ListTags", {"Resource": image.arn}),
        (LOGS, "DescribeLogGroups", {}),
        (EMBERBOX, "ListAccessKeys", {}),
        (EMBERBOX, "PutPolicy", {"policyName": "x", "userName": "ann", "policyDocument": "{}"}),
        (EMBERBOX, "LookupAuditEvents", {}),
    ]
    for service, operation, parameters in requests:
        with pytest.raises(RefusedError, match="because no identity-based policy allows the") as refused:
            await world.call(user, operation, service, **parameters)
        assert refused.value.code == "AccessDeniedException"


async def test_a_denial_has_awss_words(world: World, first: Any, image: Image) -> None:
    user = await world.new_user(first, "ann", allow("lambda:*"), deny("lambda:GetMicrovm", resource=image.arn))
    stranger = await world.new_user(first, "bob")
    microvm = world.add_microvm(image)
    who = f"is not authorized to perform: lambda:GetMicrovm on resource: {image.arn}"
    for key, text in (
        (user, f"User: arn:aws:iam::{FIRST}:user/ann {who} with an explicit deny in an identity-based policy"),
        (
            stranger,
            (
                f"User: arn:aws:iam::{FIRST}:user/bob {who} because no identity-based policy allows the "
                "lambda:GetMicrovm action"
            ),
        ),
    ):
        with pytest.raises(RefusedError) as refused:
            await world.call(key, "GetMicrovm", microvmIdentifier=microvm.id)
        found = refused.value
        assert (found.status, found.code, found.text) == (403, "AccessDeniedException", text)


async def test_microvms_are_authorised_on_their_image(world: World, first: Any, image: Image) -> None:
    user = await world.new_user(first, "ann", allow("lambda:GetMicrovm", resource=image.arn))
    other = world.add_image(FIRST, "other")
    assert await world.call(user, "GetMicrovm", microvmIdentifier=world.add_microvm(image).id)
    for identifier in (world.add_microvm(other).id, "microvm-unknown"):
        with pytest.raises(RefusedError) as refused:
            await world.call(user, "GetMicrovm", microvmIdentifier=identifier)
        assert refused.value.status == 403
    with pytest.raises(RefusedError) as refused:
        await world.call(first, "GetMicrovm", microvmIdentifier="microvm-unknown")
    assert refused.value.status == 404


async def test_tags_of_the_image_decide(world: World, first: Any, image: Image) -> None:
    red = {"StringEquals": {"aws:ResourceTag/team": "red"}}
    user = await world.new_user(first, "ann", allow("lambda:GetMicrovm", **red))
    blue = world.add_image(FIRST, "blue", team="blue")
    assert await world.call(user, "GetMicrovm", microvmIdentifier=world.add_microvm(image).id)
    microvm = world.add_microvm(blue)
    with pytest.raises(RefusedError):
        await world.call(user, "GetMicrovm", microvmIdentifier=microvm.id)
    await world.call(first, "TagResource", Resource=blue.arn, Tags={"team": "red"})
    assert await world.call(user, "GetMicrovm", microvmIdentifier=microvm.id)


async def test_whose_a_resource_is_decides(world: World, first: Any, image: Image) -> None:
    own = {"StringEquals": {"aws:ResourceAccount": FIRST}}
    ann = await world.new_user(first, "ann", allow("lambda:*", "logs:*", **own))
    microvm = world.add_microvm(image)
    assert await world.call(ann, "GetMicrovm", microvmIdentifier=microvm.id)
    await world.call(ann, "ListMicrovms")
    await world.call(ann, "DescribeLogGroups", LOGS)
    other = {"StringEquals": {"aws:ResourceAccount": SECOND}}
    bob = await world.new_user(first, "bob", allow("lambda:*", **other))
    with pytest.raises(RefusedError):
        await world.call(bob, "GetMicrovm", microvmIdentifier=microvm.id)


async def test_tags_of_the_request_decide(world: World, first: Any, image: Image) -> None:
    only = {
        "StringEquals": {"aws:RequestTag/team": ["red", "blue"]},
        "ForAllValues:StringEquals": {"aws:TagKeys": ["team", "env"]},
    }
    user = await world.new_user(first, "ann", allow("lambda:TagResource", **only))
    await world.call(user, "TagResource", Resource=image.arn, Tags={"team": "blue", "env": "x"})
    for tags in ({"team": "green"}, {"env": "x"}, {"team": "red", "other": "x"}):
        with pytest.raises(RefusedError):
            await world.call(user, "TagResource", Resource=image.arn, Tags=tags)
    assert world.images.find(image.arn).tags == {"team": "blue", "env": "x"}  # type: ignore[union-attr]


async def test_keys_of_tags_that_are_removed_decide(world: World, first: Any, image: Image) -> None:
    only = {"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}
    user = await world.new_user(first, "ann", allow("lambda:UntagResource", **only))
    with pytest.raises(RefusedError):
        await world.call(user, "UntagResource", Resource=image.arn, TagKeys=["team", "env"])
    await world.call(user, "UntagResource", Resource=image.arn, TagKeys=["team"])
    assert world.images.find(image.arn).tags == {}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "condition",
    [
        {"ForAnyValue:StringEquals": {"lambda:SubnetIds": "subnet-lab"}},
        {"ForAllValues:StringEquals": {"lambda:SecurityGroupIds": "sg-none"}},
        {"StringEquals": {"aws:RequestTag/team": "red"}},
    ],
)
async def test_what_a_connector_asks_for_decides(world: World, first: Any, condition: dict[str, Any]) -> None:
    user = await world.new_user(first, "ann", allow("lambda:*", **condition), allow("iam:PassRole"))
    refused = []
    for number, (subnet, group, team) in enumerate((("lab", "none", "red"), ("office", "web", "blue"))):
        egress = {
            "SubnetIds": [f"subnet-{subnet}"],
            "SecurityGroupIds": [f"sg-{group}"],
            "NetworkProtocol": "IPv4",
            "AssociatedComputeResourceTypes": ["MicroVm"],
        }
        try:
            await world.call(
                user, "CreateNetworkConnector", CORE, Name=f"c{number}", ClientToken=f"t{number}",
                Configuration={"VpcEgressConfiguration": egress}, OperatorRole=ROLE, Tags={"team": team},
            )  # fmt: skip
        except RefusedError as error:
            refused.append((number, error.code))
    assert refused == [(1, "AccessDeniedException")]


async def test_the_source_address_and_the_time_decide(world: World, first: Any) -> None:
    near = await world.new_user(first, "near", allow("lambda:*", IpAddress={"aws:SourceIp": "192.0.2.0/24"}))
    far = await world.new_user(first, "far", allow("lambda:*", IpAddress={"aws:SourceIp": "10.0.0.0/8"}))
    late = await world.new_user(first, "late", allow("lambda:*", DateLessThan={"aws:CurrentTime": "2020-01-01"}))
    await world.call(near, "ListMicrovms")
    for key in (far, late):
        with pytest.raises(RefusedError):
            await world.call(key, "ListMicrovms")


async def test_tls_decides_where_the_gateway_ends_it(world: World, first: Any) -> None:
    """A client at the API's own port cannot say that it came by TLS."""
    statements = (allow("lambda:*"), deny("*", Bool={"aws:SecureTransport": "false"}))
    user = await world.new_user(first, "careful", *statements)
    request = signed_operation(MICROVMS, "ListMicrovms", {}, user)
    for headers in ((), (("x-forwarded-proto", "https"), ("x-emberbox-source", "192.0.2.1"))):
        with pytest.raises(RefusedError, match="explicit deny"):
            await world.send(replace(request, headers=(*request.headers, *headers)))
    world.app = Forwarded(world.app)
    assert (await world.send(request))["items"] == []


async def test_passing_connectors_and_roles_needs_permission(world: World, first: Any, image: Image) -> None:
    run = allow("lambda:RunMicrovm", resource=image.arn)
    microvms = {"imageIdentifier": image.arn, "executionRoleArn": ROLE}
    cases = [
        ("a", [run], "lambda:PassNetworkConnector", connector("HTTP_INGRESS")),
        (
            "b",
            [run, allow(PASS, resource=connector("HTTP_INGRESS"))],
            "lambda:PassNetworkConnector",
            connector("INTERNET_EGRESS"),
        ),
        ("c", [run, allow(PASS)], "iam:PassRole", ROLE),
    ]
    for name, statements, action, resource in cases:
        user = await world.new_user(first, name, *statements)
        with pytest.raises(RefusedError) as refused:
            await world.call(user, "RunMicrovm", **microvms)
        assert f"is not authorized to perform: {action} on resource: {resource} " in str(refused.value.text)
    passed = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    user = await world.new_user(first, "d", run, allow(PASS), allow(PASS_ROLE, resource=ROLE, **passed))
    world.images.set_version_status(image.id, "1.0", "INACTIVE", image.created_at)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match="No active version found"):
        await world.call(user, "RunMicrovm", **microvms)


async def test_a_role_of_another_account_cannot_be_passed(world: World, first: Any, image: Image) -> None:
    role = ROLE.replace(FIRST, SECOND)
    with pytest.raises(RefusedError, match=r"Cross-account pass role is not allowed\.") as refused:
        await world.call(first, "RunMicrovm", imageIdentifier=image.arn, executionRoleArn=role)
    assert refused.value.code == "AccessDeniedException"


async def test_an_undefined_role_is_an_error_where_roles_are_strict(tmp_path: Any) -> None:
    async with start_world(tmp_path, strict_roles=True) as world:
        key = await world.new_account(FIRST)
        image = world.add_image(FIRST, "web")
        world.images.set_version_status(image.id, "1.0", "INACTIVE", image.created_at)  # type: ignore[arg-type]
        run = {"imageIdentifier": image.arn, "executionRoleArn": ROLE}
        with pytest.raises(RefusedError, match=f"The role {ROLE} cannot be assumed by Lambda") as refused:
            await world.call(key, "RunMicrovm", **run)
        assert (refused.value.status, refused.value.code) == (400, "ValidationException")
        await world.own(world.admin, "PutRole", roleName="build", accountId=FIRST)
        with pytest.raises(RefusedError, match="No active version found"):
            await world.call(key, "RunMicrovm", **run)


async def test_an_undefined_operator_role_is_refused_in_awss_words_and_the_log_has_the_remedy(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_world(tmp_path, strict_roles=True) as world:
        key = await world.new_account(FIRST)
        vpc = {"SubnetIds": ["subnet-1"], "NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": ["MicroVm"]}
        asked = {
            "Name": "office", "Configuration": {"VpcEgressConfiguration": vpc}, "OperatorRole": ROLE,
            "ClientToken": "token",
        }  # fmt: skip
        with pytest.raises(RefusedError) as refused:
            await world.call(key, "CreateNetworkConnector", service="lambda-core", **asked)
        assert (refused.value.status, refused.value.code) == (400, "InvalidParameterValueException")
        assert refused.value.text == (
            "The service is unable to assume the provided NetworkConnectorOperatorRole. "
            "Please verify the trust policy on the role."
        )
        assert f"emberbox roles put {ROLE.rpartition('/')[2]}" in caplog.text


async def test_an_undefined_role_is_a_warning_by_default(
    world: World, first: Any, image: Image, caplog: pytest.LogCaptureFixture
) -> None:
    world.images.set_version_status(image.id, "1.0", "INACTIVE", image.created_at)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(RefusedError, match="No active version found"):
            await world.call(first, "RunMicrovm", imageIdentifier=image.arn, executionRoleArn=ROLE)
    warnings = [record for record in caplog.records if ROLE in record.getMessage()]
    assert len(warnings) == 1


async def test_what_one_account_has_is_closed_and_invisible_to_another(world: World, first: Any, image: Image) -> None:
    second = await world.new_account(SECOND)
    microvm = world.add_microvm(image)
    assert (await world.call(second, "ListMicrovms"))["items"] == []
    for operation in ("GetMicrovm", "SuspendMicrovm", "ResumeMicrovm", "TerminateMicrovm"):
        with pytest.raises(RefusedError, match=f"MicroVM not found: {microvm.id}") as refused:
            await world.call(second, operation, microvmIdentifier=microvm.id)
        assert refused.value.status == 404
    foreign: list[tuple[str, str, dict[str, Any]]] = [
        (MICROVMS, "RunMicrovm", {"imageIdentifier": image.arn}),
        (MICROVMS, "ListTags", {"Resource": image.arn}),
        (MICROVMS, "TagResource", {"Resource": image.arn, "Tags": {"a": "b"}}),
        (MICROVMS, "UntagResource", {"Resource": image.arn, "TagKeys": ["a"]}),
        (LOGS, "FilterLogEvents", {"logGroupIdentifier": f"arn:aws:logs:{REGION}:{FIRST}:log-group:/g"}),
    ]
    for service, operation, parameters in foreign:
        with pytest.raises(RefusedError) as refused:
            await world.call(second, operation, service, **parameters)
        assert (refused.value.code, refused.value.status) in (
            ("AccessDeniedException", 403),
            ("AccessDeniedException", 400),
        ), operation
        assert "because no resource-based policy allows the" in refused.value.text
    assert world.images.find(image.arn).tags == {"team": "red"}  # type: ignore[union-attr]
    mine = world.add_image(SECOND, "web")
    assert (await world.call(second, "ListTags", Resource=mine.arn))["Tags"] == {}


async def test_log_groups_of_one_name_are_two_groups_in_two_accounts(world: World, first: Any) -> None:
    second = await world.new_account(SECOND)
    world.logs.append(LogGroup(FIRST, "/g"), "s", [(1, "of the first")])
    world.logs.append(LogGroup(SECOND, "/g"), "s", [(2, "of the second")])
    world.logs.append(LogGroup(FIRST, "/only"), "s", [(3, "x")])
    for key, groups, text in ((first, ["/g", "/only"], "of the first"), (second, ["/g"], "of the second")):
        listed = (await world.call(key, "DescribeLogGroups", LOGS))["logGroups"]
        assert [group["logGroupName"] for group in listed] == groups
        assert {group["arn"].split(":")[4] for group in listed} == {key.account_id}
        for operation, more in (("FilterLogEvents", {}), ("GetLogEvents", {"logStreamName": "s"})):
            events = (await world.call(key, operation, LOGS, logGroupName="/g", **more))["events"]
            assert [event["message"] for event in events] == [text]
    with pytest.raises(RefusedError, match="log group does not exist"):
        await world.call(second, "FilterLogEvents", LOGS, logGroupName="/only")


async def test_a_user_reads_only_the_groups_of_a_policy(world: World, first: Any) -> None:
    group = f"arn:aws:logs:{REGION}:{FIRST}:log-group:/team/*"
    user = await world.new_user(first, "ann", allow("logs:*", resource=group))
    for name in ("/team/a", "/other"):
        world.logs.append(LogGroup(FIRST, name), "s", [(1, name)])
    for operation, more in (("FilterLogEvents", {}), ("GetLogEvents", {"logStreamName": "s"})):
        events = (await world.call(user, operation, LOGS, logGroupName="/team/a", **more))["events"]
        assert [event["message"] for event in events] == ["/team/a"]
        with pytest.raises(RefusedError, match=f"not authorized to perform: logs:{operation}"):
            await world.call(user, operation, LOGS, logGroupName="/other", **more)


async def test_an_account_administers_itself_and_no_other(world: World, first: Any) -> None:
    second = await world.new_account(SECOND)
    ann = await world.new_user(second, "ann")
    foreign: list[tuple[str, dict[str, Any]]] = [
        ("CreateAccessKey", {"userName": "x", "accountId": SECOND}),
        ("ListAccessKeys", {"accountId": SECOND}),
        ("PutPolicy", {"policyName": "x", "userName": "ann", "accountId": SECOND, "policyDocument": "{}"}),
        ("ListPolicies", {"accountId": SECOND}),
        ("DeletePolicy", {"policyName": "x", "userName": "ann", "accountId": SECOND}),
        ("ListRoles", {"accountId": SECOND}),
        ("ListQuotas", {"accountId": SECOND}),
    ]
    for operation, parameters in foreign:
        with pytest.raises(RefusedError) as refused:
            await world.own(first, operation, **parameters)
        assert (refused.value.status, refused.value.code) == (403, "AccessDeniedException"), operation
    for operation, more in (("UpdateAccessKey", {"status": "Inactive"}), ("DeleteAccessKey", {})):
        with pytest.raises(RefusedError, match=f"Access key not found: {ann.access_key_id}"):
            await world.own(first, operation, accessKeyId=ann.access_key_id, **more)
    for operation, parameters in foreign[:2]:
        assert await world.own(world.admin, operation, **parameters)


async def test_limits_are_the_operators_business_whatever_a_policy_says(world: World, first: Any) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        ("CreateAccount", {"accountName": "x"}),
        ("ListAccounts", {}),
        ("PutQuota", {"quotaCode": "Images", "value": 10**6}),
        ("DeleteQuota", {"quotaCode": "Images"}),
        ("PutRole", {"roleName": "x"}),
        ("DeleteRole", {"roleName": "x"}),
    ]
    for operation, parameters in requests:
        with pytest.raises(RefusedError, match="because it is the operator's business"):
            await world.own(first, operation, **parameters)
    helper = await world.new_user(world.admin, "helper", allow("emberbox:CreateAccount"))
    assert await world.own(helper, "CreateAccount", accountName="x")
    with pytest.raises(RefusedError, match="because no identity-based policy allows the emberbox:PutQuota action"):
        await world.own(helper, "PutQuota", quotaCode="Images", value=1)


async def test_policies_are_put_listed_and_deleted(world: World, first: Any) -> None:
    user = await world.new_user(first, "ann", allow("lambda:*"))
    await world.call(user, "ListMicrovms")
    listed = (await world.own(first, "ListPolicies", userName="ann"))["items"]
    assert [(policy["policyName"], policy["accountId"]) for policy in listed] == [("test", FIRST)]
    assert json.loads(listed[0]["policyDocument"])["Statement"][0]["Action"] == ["lambda:*"]
    await world.own(first, "DeletePolicy", policyName="test", userName="ann")
    with pytest.raises(RefusedError, match="not authorized"):
        await world.call(user, "ListMicrovms")
    with pytest.raises(RefusedError, match="Policy not found: test of user ann"):
        await world.own(first, "DeletePolicy", policyName="test", userName="ann")
    names = {(policy["userName"], policy["policyName"]) for policy in (await world.own(first, "ListPolicies"))["items"]}
    assert names == {("admin", "AdministratorAccess")}
    shown = (await world.own(world.admin, "ListPolicies"))["items"]
    assert [(policy["userName"], policy["accountId"]) for policy in shown] == [("admin", OPERATOR)]


async def test_a_malformed_policy_is_refused_and_nothing_changes(world: World, first: Any) -> None:
    user = await world.new_user(first, "ann", allow("lambda:*"))
    bad = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "lambda:*"}]}'
    with pytest.raises(RefusedError, match=r"malformed: Statement\[0\] must have either Resource") as refused:
        await world.own(first, "PutPolicy", policyName="test", userName="ann", policyDocument=bad)
    assert refused.value.code == "ValidationException"
    await world.call(user, "ListMicrovms")


# --- as an edge asks


def refusal(world: World, key: Any, request: AccessRequest) -> str | None:
    """Return the text that a request is refused with, None when it passes."""
    credential = world.access.find_credential(key.access_key_id, key.session_token)
    assert credential is not None
    try:
        world.access.authorise(credential, "192.0.2.1", request)
    except AccessDeniedError as denied:
        return str(denied)
    return None


def on(*permissions: tuple[str, str], **more: Any) -> AccessRequest:
    return AccessRequest(tuple(Permission(*pair) for pair in permissions), **more)


async def test_every_permission_of_a_request_is_needed(world: World, first: Any) -> None:
    user = await world.new_user(first, "ann", allow("lambda:GetMicrovm", "lambda:TagResource", resource=IMAGE))
    assert refusal(world, user, on(("lambda:GetMicrovm", IMAGE), ("lambda:TagResource", IMAGE))) is None
    refused = refusal(world, user, on(("lambda:GetMicrovm", IMAGE), ("lambda:UntagResource", IMAGE)))
    assert refused is not None
    assert "perform: lambda:UntagResource on resource" in refused


def test_a_request_names_each_resource_once() -> None:
    assert on(("a:B", IMAGE), ("a:C", IMAGE), ("a:D", "*")).resources == (IMAGE, "*")


async def test_only_the_operator_reaches_into_another_account_and_only_to_administer(world: World, first: Any) -> None:
    other = "222222222222"
    administer = on(("emberbox:ListRoles", "*"), account_id=other)
    use = on(("lambda:ListMicrovms", "*"), account_id=other)
    assert refusal(world, world.admin, administer) is None
    for key, request in ((world.admin, use), (first, administer), (first, use)):
        assert "because no resource-based policy allows the" in str(refusal(world, key, request))
    assert refusal(world, first, on(("emberbox:ListRoles", "*"), account_id=FIRST)) is None


@pytest.mark.parametrize("name", ["CreateAccount", "ListAccounts", "PutRole", "DeleteRole", "PutQuota", "DeleteQuota"])
async def test_any_edge_is_told_what_is_the_operators_business(world: World, first: Any, name: str) -> None:
    request = on((f"emberbox:{name}", "*"))
    assert "because it is the operator's business" in str(refusal(world, first, request))
    assert refusal(world, world.admin, request) is None


async def test_facts_of_a_request_decide_but_do_not_hide_who_asks(world: World, first: Any) -> None:
    red = {"StringEquals": {"aws:RequestTag/team": "red"}}
    user = await world.new_user(first, "ann", allow("lambda:*", **red), deny("lambda:Get*", StringEquals=ANN))
    listing = on(("lambda:ListMicrovms", "*"), facts={"aws:requesttag/team": ("red",)})
    assert refusal(world, user, listing) is None
    assert refusal(world, user, on(("lambda:ListMicrovms", "*"))) is not None
    lie = {"aws:requesttag/team": ("red",), "aws:username": ("bob",)}
    assert "with an explicit deny" in str(refusal(world, user, on(("lambda:GetMicrovm", IMAGE), facts=lie)))
