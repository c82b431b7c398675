"""IAM's roles and policies: what clients make, what it then may do, and every refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.model.errors import ValidationError
from emberbox.spec.models import IAM, MICROVMS, STS
from support.around import Around, allow, new_user, own, trust
from support.control_plane import ControlPlane
from support.wire import KEY, REGION, call, signed_operation

ACCOUNT = KEY.account_id
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
LAMBDA = trust({"Service": "lambda.amazonaws.com"})
ANYBODY = trust("*")
MALFORMED = "MalformedPolicyDocument"
OTHER = "111111111111"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, KEY, REGION)
    yield plane
    await plane.close()


@pytest.fixture
def admin(plane: ControlPlane) -> Around:
    return Around(plane.app(), KEY)


async def make_role(client: Around, name: str = "app", **more: Any) -> dict[str, Any]:
    asked = {"RoleName": name, "AssumeRolePolicyDocument": ANYBODY, **more}
    made: dict[str, Any] = (await client.ok(IAM, "CreateRole", **asked))["Role"]
    return made


async def statuses(plane: ControlPlane, admin: Around, *operations: str) -> list[int]:
    """Return what a session of the role `app` is answered."""
    role = (await admin.ok(IAM, "GetRole", RoleName="app"))["Role"]
    session = admin.by((await admin.ok(STS, "AssumeRole", RoleArn=role["Arn"], RoleSessionName="job"))["Credentials"])
    requests = [signed_operation(MICROVMS, name, {}, session.key) for name in operations]
    return [(await call(plane.app(), request)).status for request in requests]


async def test_a_role_is_made_shown_and_deleted(admin: Around) -> None:
    tags = [{"Key": "team", "Value": "red"}]
    made = await make_role(admin, Path="/a/b/", Description="words", MaxSessionDuration=7200, Tags=tags)
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/a/b/app"
    assert (made["RoleId"][:4], len(made["RoleId"])) == ("AROA", 21)
    shown = (await admin.ok(IAM, "GetRole", RoleName="app"))["Role"]
    assert shown == made
    assert (shown["Path"], shown["Description"], shown["MaxSessionDuration"]) == ("/a/b/", "words", 7200)
    assert shown["Tags"] == tags
    assert shown["AssumeRolePolicyDocument"].startswith("%7B%22Version%22%3A")
    assert [role["RoleName"] for role in (await admin.ok(IAM, "ListRoles"))["Roles"]] == ["app"]
    assert (await admin.ok(IAM, "ListRoles", PathPrefix="/c/"))["Roles"] == []
    assert (await admin.ok(IAM, "ListInstanceProfilesForRole", RoleName="app"))["InstanceProfiles"] == []
    await admin.ok(IAM, "DeleteRole", RoleName="app")
    text = "The role with name app cannot be found."
    assert await admin.refused(IAM, "GetRole", RoleName="app") == (404, "NoSuchEntity", text)
    assert (await make_role(admin))["RoleId"] != made["RoleId"], "a role that is made anew is another one"


async def test_a_role_is_changed_bit_by_bit(admin: Around) -> None:
    made = await make_role(admin)
    await admin.ok(IAM, "UpdateRole", RoleName="app", MaxSessionDuration=3601)
    await admin.ok(IAM, "UpdateRoleDescription", RoleName="app", Description="new")
    await admin.ok(IAM, "UpdateRole", RoleName="app")
    await admin.ok(IAM, "TagRole", RoleName="app", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}])
    await admin.ok(IAM, "TagRole", RoleName="app", Tags=[{"Key": "a", "Value": "2"}])
    await admin.ok(IAM, "UntagRole", RoleName="app", TagKeys=["b", "c"])
    shown = (await admin.ok(IAM, "GetRole", RoleName="app"))["Role"]
    assert (shown["MaxSessionDuration"], shown["Description"]) == (3601, "new")
    assert (shown["RoleId"], shown["CreateDate"]) == (made["RoleId"], made["CreateDate"])
    assert (await admin.ok(IAM, "ListRoleTags", RoleName="app"))["Tags"] == [{"Key": "a", "Value": "2"}]
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    assert (await admin.refused(IAM, "TagRole", RoleName="app", Tags=many))[:2] == (400, "InvalidInput")


async def test_a_roles_own_policies_count_from_the_next_request_on(plane: ControlPlane, admin: Around) -> None:
    await make_role(admin)
    assert await statuses(plane, admin, "ListMicrovms") == [403]
    for name, action in (("one", "lambda:ListMicrovms"), ("two", "lambda:ListMicrovmImages")):
        await admin.ok(IAM, "PutRolePolicy", RoleName="app", PolicyName=name, PolicyDocument=allow(action))
    assert await statuses(plane, admin, "ListMicrovms", "ListMicrovmImages") == [200, 200]
    assert (await admin.ok(IAM, "ListRolePolicies", RoleName="app"))["PolicyNames"] == ["one", "two"]
    shown = await admin.ok(IAM, "GetRolePolicy", RoleName="app", PolicyName="one")
    assert (shown["RoleName"], shown["PolicyName"]) == ("app", "one")
    assert "lambda%3AListMicrovms" in shown["PolicyDocument"]
    text = "Cannot delete entity, must delete policies first."
    assert await admin.refused(IAM, "DeleteRole", RoleName="app") == (409, "DeleteConflict", text)
    await admin.ok(IAM, "DeleteRolePolicy", RoleName="app", PolicyName="one")
    assert await statuses(plane, admin, "ListMicrovms", "ListMicrovmImages") == [403, 200]
    text = "The role policy with name one cannot be found."
    for operation in ("GetRolePolicy", "DeleteRolePolicy"):
        found = await admin.refused(IAM, operation, RoleName="app", PolicyName="one")
        assert found == (404, "NoSuchEntity", text)


async def test_managed_policies_count_where_they_are_attached(plane: ControlPlane, admin: Around) -> None:
    await make_role(admin)
    document = allow("lambda:ListMicrovms")
    made = (await admin.ok(IAM, "CreatePolicy", PolicyName="lists", PolicyDocument=document, Path="/x/"))["Policy"]
    arn = f"arn:aws:iam::{ACCOUNT}:policy/x/lists"
    assert (made["Arn"], made["AttachmentCount"], made["DefaultVersionId"]) == (arn, 0, "v1")
    for policy in (arn, BASIC, arn):
        await admin.ok(IAM, "AttachRolePolicy", RoleName="app", PolicyArn=policy)
    assert await statuses(plane, admin, "ListMicrovms") == [200]
    attached = (await admin.ok(IAM, "ListAttachedRolePolicies", RoleName="app"))["AttachedPolicies"]
    assert {policy["PolicyArn"] for policy in attached} == {arn, BASIC}
    assert (await admin.ok(IAM, "GetPolicy", PolicyArn=arn))["Policy"]["AttachmentCount"] == 1
    version = (await admin.ok(IAM, "GetPolicyVersion", PolicyArn=arn, VersionId="v1"))["PolicyVersion"]
    assert "ListMicrovms" in version["Document"]
    assert (await admin.refused(IAM, "GetPolicyVersion", PolicyArn=arn, VersionId="v2"))[1] == "NoSuchEntity"
    assert len((await admin.ok(IAM, "ListPolicyVersions", PolicyArn=arn))["Versions"]) == 1
    for scope, found in (("Local", {arn}), ("AWS", {BASIC}), ("All", {arn, BASIC})):
        listed = (await admin.ok(IAM, "ListPolicies", Scope=scope, OnlyAttached=True))["Policies"]
        assert {policy["Arn"] for policy in listed} == found

    text = "Cannot delete a policy attached to entities."
    assert await admin.refused(IAM, "DeletePolicy", PolicyArn=arn) == (409, "DeleteConflict", text)
    text = "Cannot delete entity, must detach all policies first."
    assert await admin.refused(IAM, "DeleteRole", RoleName="app") == (409, "DeleteConflict", text)
    await admin.ok(IAM, "DetachRolePolicy", RoleName="app", PolicyArn=arn)
    assert await statuses(plane, admin, "ListMicrovms") == [403]
    assert (await admin.refused(IAM, "DetachRolePolicy", RoleName="app", PolicyArn=arn))[1] == "NoSuchEntity"
    await admin.ok(IAM, "DeletePolicy", PolicyArn=arn)
    assert (await admin.refused(IAM, "GetPolicy", PolicyArn=arn))[:2] == (404, "NoSuchEntity")


@pytest.mark.parametrize(
    ("operation", "parameters", "status", "code"),
    [
        ("CreateRole", {"RoleName": "app", "AssumeRolePolicyDocument": LAMBDA}, 409, "EntityAlreadyExists"),
        ("CreateRole", {"RoleName": "new", "AssumeRolePolicyDocument": "{}"}, 400, MALFORMED),
        ("CreateRole", {"RoleName": "a b", "AssumeRolePolicyDocument": LAMBDA}, 400, "ValidationError"),
        ("CreateRole", {"RoleName": "new"}, 400, "ValidationError"),
        ("UpdateAssumeRolePolicy", {"RoleName": "app", "PolicyDocument": "{}"}, 400, MALFORMED),
        ("PutRolePolicy", {"RoleName": "app", "PolicyName": "p", "PolicyDocument": "{}"}, 400, MALFORMED),
        ("CreatePolicy", {"PolicyName": "p", "PolicyDocument": "{}"}, 400, MALFORMED),
        ("AttachRolePolicy", {"RoleName": "app", "PolicyArn": "arn:aws:iam::aws:policy/Nope"}, 404, "NoSuchEntity"),
        ("DeletePolicy", {"PolicyArn": BASIC}, 400, "InvalidInput"),
        ("SimulatePrincipalPolicy", {"PolicySourceArn": BASIC, "ActionNames": ["a:b"]}, 400, "InvalidInput"),
        *(
            (operation, {"RoleName": "other", **more}, 404, "NoSuchEntity")
            for operation, more in {
                "DeleteRole": {},
                "UpdateRole": {},
                "TagRole": {"Tags": [{"Key": "a", "Value": "b"}]},
                "UntagRole": {"TagKeys": ["a"]},
                "ListRoleTags": {},
                "ListInstanceProfilesForRole": {},
                "ListRolePolicies": {},
                "ListAttachedRolePolicies": {},
                "PutRolePolicy": {"PolicyName": "p", "PolicyDocument": allow("a:b")},
                "AttachRolePolicy": {"PolicyArn": BASIC},
                "DetachRolePolicy": {"PolicyArn": BASIC},
                "UpdateAssumeRolePolicy": {"PolicyDocument": LAMBDA},
            }.items()
        ),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_as_iam_does(
    admin: Around, operation: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    await make_role(admin)
    assert (await admin.refused(IAM, operation, **parameters))[:2] == (status, code)


async def test_a_policy_of_a_name_is_made_once(admin: Around) -> None:
    await admin.ok(IAM, "CreatePolicy", PolicyName="p", PolicyDocument=allow("a:b"))
    found = await admin.refused(IAM, "CreatePolicy", PolicyName="p", PolicyDocument=allow("a:b"))
    assert found == (409, "EntityAlreadyExists", "A policy called p already exists. Duplicate names are not allowed.")


async def test_lists_are_paged(admin: Around) -> None:
    for number in range(3):
        await make_role(admin, f"role-{number}")
    first = await admin.ok(IAM, "ListRoles", MaxItems=2)
    assert first["IsTruncated"]
    rest = await admin.ok(IAM, "ListRoles", Marker=first["Marker"])
    names = [role["RoleName"] for role in (*first["Roles"], *rest["Roles"])]
    assert (names, rest["IsTruncated"], rest.get("Marker")) == (["role-0", "role-1", "role-2"], False, None)
    assert (await admin.refused(IAM, "ListPolicies", Marker=first["Marker"]))[:2] == (400, "ValidationError")


async def test_policies_are_simulated(plane: ControlPlane, admin: Around) -> None:
    await make_role(admin)
    await new_user(plane, "ann", "lambda:List*")
    await admin.ok(
        IAM, "PutRolePolicy", RoleName="app", PolicyName="p", PolicyDocument=allow("s3:*", resource="arn:aws:s3:::b/*")
    )
    for principal, wanted in (("user/ann", ["allowed", "implicitDeny"]), ("role/app", ["implicitDeny", "allowed"])):
        found = await admin.ok(
            IAM, "SimulatePrincipalPolicy", PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:{principal}",
            ActionNames=["lambda:ListMicrovms", "s3:GetObject"], ResourceArns=["arn:aws:s3:::b/k"],
        )  # fmt: skip
        assert [one["EvalDecision"] for one in found["EvaluationResults"]] == wanted


async def test_policies_decide_who_may_do_it(plane: ControlPlane, admin: Around) -> None:
    ann = await new_user(plane, "ann", "iam:GetRole", "iam:CreateRole")
    await make_role(admin, Path="/x/")
    assert await ann.ok(IAM, "GetRole", RoleName="app")
    arn = f"arn:aws:iam::{ACCOUNT}:role/x/app"
    status, code, text = await ann.refused(IAM, "DeleteRole", RoleName="app")
    assert (status, code) == (403, "AccessDenied")
    assert f"not authorized to perform: iam:DeleteRole on resource: {arn} because" in text
    tagged = {"RoleName": "t", "AssumeRolePolicyDocument": LAMBDA, "Tags": [{"Key": "a", "Value": "b"}]}
    assert "iam:TagRole" in (await ann.refused(IAM, "CreateRole", **tagged))[2]
    foreign = f"arn:aws:iam::{OTHER}:policy/p"
    assert (await admin.refused(IAM, "GetPolicy", PolicyArn=foreign))[:2] == (403, "AccessDenied")


async def test_an_accounts_roles_are_invisible_to_others(plane: ControlPlane, admin: Around) -> None:
    made = (await own(plane, "CreateAccount", accountName="other", accountId=OTHER))["accessKey"]
    other = Around(plane.app(), type(KEY)(made["accessKeyId"], made["secretAccessKey"], OTHER))
    await make_role(admin)
    await admin.ok(IAM, "CreatePolicy", PolicyName="p", PolicyDocument=allow("a:b"))
    assert (await other.ok(IAM, "ListRoles"))["Roles"] == []
    assert (await other.ok(IAM, "ListPolicies", Scope="Local"))["Policies"] == []
    assert (await other.refused(IAM, "GetRole", RoleName="app"))[1] == "NoSuchEntity"
    await make_role(other)
    await other.ok(IAM, "DeleteRole", RoleName="app")
    assert await admin.ok(IAM, "GetRole", RoleName="app")


async def test_what_the_operator_defined_no_other_account_changes(plane: ControlPlane, admin: Around) -> None:
    made = (await own(plane, "CreateAccount", accountName="other", accountId=OTHER))["accessKey"]
    other = Around(plane.app(), type(KEY)(made["accessKeyId"], made["secretAccessKey"], OTHER))
    await own(plane, "PutRole", accountId=OTHER, roleName="build", s3Prefixes=["s3://code/"])
    assert (await other.ok(IAM, "GetRole", RoleName="build"))["Role"]["Arn"] == f"arn:aws:iam::{OTHER}:role/build"
    for operation, more in (
        ("DeleteRole", {}),
        ("UpdateRole", {"Description": "x"}),
        ("TagRole", {"Tags": [{"Key": "a", "Value": "b"}]}),
        ("UntagRole", {"TagKeys": ["a"]}),
        ("UpdateAssumeRolePolicy", {"PolicyDocument": LAMBDA}),
        ("PutRolePolicy", {"PolicyName": "p", "PolicyDocument": allow("a:b")}),
        ("AttachRolePolicy", {"PolicyArn": BASIC}),
    ):
        status, code, text = await other.refused(IAM, operation, RoleName="build", **more)
        assert (status, code) == (400, "UnmodifiableEntity"), operation
        assert "emberbox roles put" in text


async def test_where_roles_are_strict_an_account_defines_none_for_itself(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, KEY, REGION, strict_roles=True)
    admin = Around(plane.app(), KEY)
    made = (await own(plane, "CreateAccount", accountName="other", accountId=OTHER))["accessKey"]
    other = Around(plane.app(), type(KEY)(made["accessKeyId"], made["secretAccessKey"], OTHER))
    roles = plane.access.roles
    for client, account, prefixes in ((admin, ACCOUNT, None), (other, OTHER, ())):
        arn = (await make_role(client, AssumeRolePolicyDocument=LAMBDA))["Arn"]
        assert roles.readable_prefixes(account, arn) == prefixes
    with pytest.raises(ValidationError, match="is not defined"):
        roles.check_defined(OTHER, f"arn:aws:iam::{OTHER}:role/app")
    roles.check_defined(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/app")
    await own(plane, "PutRole", accountId=OTHER, roleName="app", s3Prefixes=["s3://code/"])
    roles.check_defined(OTHER, f"arn:aws:iam::{OTHER}:role/app")
    assert (await other.refused(IAM, "DeleteRole", RoleName="app"))[1] == "UnmodifiableEntity"
    await plane.close()


async def test_roles_are_the_same_as_those_of_the_command_line(plane: ControlPlane, admin: Around) -> None:
    made = await make_role(admin, Path="/x/", Description="made by IAM")
    await admin.ok(IAM, "AttachRolePolicy", RoleName="app", PolicyArn=BASIC)
    await admin.ok(IAM, "PutRolePolicy", RoleName="app", PolicyName="wide", PolicyDocument=allow("*"))
    assert [(role["roleName"], role["description"]) for role in (await own(plane, "ListRoles"))["items"]] == [
        ("app", "made by IAM")
    ]
    await own(plane, "PutRole", roleName="app", description="put", policyDocument=allow("lambda:ListMicrovms"))
    shown = (await admin.ok(IAM, "GetRole", RoleName="app"))["Role"]
    assert (shown["Description"], shown["Arn"], shown["RoleId"]) == ("put", made["Arn"], made["RoleId"])
    assert (await admin.ok(IAM, "ListRolePolicies", RoleName="app"))["PolicyNames"] == ["role"]
    assert (await admin.ok(IAM, "ListAttachedRolePolicies", RoleName="app"))["AttachedPolicies"] == []
    assert await statuses(plane, admin, "ListMicrovms", "ListMicrovmImages") == [200, 403]
    await own(plane, "DeleteRole", roleName="app")
    assert (await admin.refused(IAM, "GetRole", RoleName="app"))[1] == "NoSuchEntity"


async def test_a_role_that_does_not_trust_lambda_is_not_passed_to_it(plane: ControlPlane, admin: Around) -> None:
    arn = (await make_role(admin, AssumeRolePolicyDocument=trust({"AWS": ACCOUNT})))["Arn"]
    request = {
        "name": "web", "baseImageArn": f"arn:aws:lambda:{REGION}:aws:microvm-image:debian12-1", "buildRoleArn": arn,
        "codeArtifact": {"uri": "s3://code/app.zip"},
    }  # fmt: skip
    answer = await call(plane.app(), signed_operation(MICROVMS, "CreateMicrovmImage", request))
    assert (answer.status, b"its trust policy does not name lambda.amazonaws.com" in answer.body) == (400, True)
    await admin.ok(IAM, "UpdateAssumeRolePolicy", RoleName="app", PolicyDocument=LAMBDA)
    answer = await call(plane.app(), signed_operation(MICROVMS, "CreateMicrovmImage", request))
    assert b"trust" not in answer.body


async def test_roles_and_policies_survive_a_restart(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, KEY, REGION)
    admin = Around(plane.app(), KEY)
    made = await make_role(admin, Tags=[{"Key": "a", "Value": "b"}])
    arn = (await admin.ok(IAM, "CreatePolicy", PolicyName="p", PolicyDocument=allow("lambda:ListMicrovms")))["Policy"][
        "Arn"
    ]
    await admin.ok(IAM, "AttachRolePolicy", RoleName="app", PolicyArn=arn)
    await plane.close()
    plane = ControlPlane(tmp_path, KEY, REGION)
    admin = Around(plane.app(), KEY)
    assert (await admin.ok(IAM, "GetRole", RoleName="app"))["Role"] == made
    assert await statuses(plane, admin, "ListMicrovms") == [200]
    await plane.close()
