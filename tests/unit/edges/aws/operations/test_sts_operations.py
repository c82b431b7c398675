"""STS: who somebody is, and temporary credentials that everything else accepts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emberbox.edges.forwarded import Forwarded
from emberbox.spec.models import EMBERBOX, IAM, MICROVMS, STS
from support.around import Around, allow, new_user, own, trust
from support.control_plane import ControlPlane
from support.wire import KEY, REGION, call, signed_operation

ACCOUNT = KEY.account_id
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
LISTS = allow("lambda:List*")


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    plane = ControlPlane(tmp_path, KEY, REGION)
    yield plane
    await plane.close()


@pytest.fixture
def admin(plane: ControlPlane) -> Around:
    return Around(plane.app(), KEY)


async def list_microvms(plane: ControlPlane, who: Around) -> int:
    return (await call(plane.app(), signed_operation(MICROVMS, "ListMicrovms", {}, who.key))).status


async def test_whoever_may_do_nothing_is_told_who_it_is(plane: ControlPlane) -> None:
    ann = await new_user(plane, "ann")
    first, again = [await ann.ok(STS, "GetCallerIdentity") for _ in range(2)]
    assert (first["Account"], first["Arn"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann")
    assert first["UserId"].startswith("AIDA")
    assert len(first["UserId"]) == 21
    assert first["UserId"] == again["UserId"]


async def test_a_session_has_its_users_rights_and_no_more(plane: ControlPlane) -> None:
    ann = await new_user(plane, "ann", "lambda:List*")
    made = (await ann.ok(STS, "GetSessionToken", DurationSeconds=900))["Credentials"]
    left = (made["Expiration"] - datetime.now(UTC)).total_seconds()
    assert 890 < left <= 900
    session = ann.by(made)
    assert await list_microvms(plane, session) == 200
    assert (await session.ok(STS, "GetCallerIdentity"))["Arn"].endswith(":user/ann")
    text = "Cannot call GetSessionToken with session credentials"
    assert await session.refused(STS, "GetSessionToken") == (403, "AccessDenied", text)
    stranger = ann.by({**made, "SessionToken": made["SessionToken"][:-4] + "AAAA"})
    assert (await stranger.refused(STS, "GetCallerIdentity"))[1] == "InvalidClientTokenId"
    await own(plane, "UpdateAccessKey", accessKeyId=ann.key.access_key_id, status="Inactive")
    assert (await session.refused(STS, "GetCallerIdentity"))[1] == "InvalidClientTokenId"


async def test_a_role_is_assumed_with_its_own_rights(plane: ControlPlane, admin: Around) -> None:
    await own(plane, "PutRole", roleName="app", policyDocument=LISTS)
    ann = await new_user(plane, "ann", "sts:AssumeRole")
    made = await ann.ok(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName="job")
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/app/job"
    assert made["AssumedRoleUser"]["Arn"] == arn
    session = ann.by(made["Credentials"])
    who = await session.ok(STS, "GetCallerIdentity")
    assert (who["Arn"], who["UserId"]) == (arn, made["AssumedRoleUser"]["AssumedRoleId"])
    assert who["UserId"].startswith("AROA")
    assert who["UserId"].endswith(":job")
    assert await list_microvms(plane, session) == 200
    assert await list_microvms(plane, ann) == 403


async def test_what_policies_or_trust_do_not_allow_is_denied(plane: ControlPlane, admin: Around) -> None:
    ann, bob = await new_user(plane, "ann", "sts:AssumeRole"), await new_user(plane, "bob")
    await admin.ok(
        IAM, "CreateRole", RoleName="app", AssumeRolePolicyDocument=trust({"Service": "lambda.amazonaws.com"})
    )
    asked = {"RoleArn": ROLE, "RoleSessionName": "job"}
    denied = f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: sts:AssumeRole on resource: {ROLE}"
    assert await ann.refused(STS, "AssumeRole", **asked) == (403, "AccessDenied", denied)
    assert (await bob.refused(STS, "AssumeRole", **asked))[2].endswith("policy allows the sts:AssumeRole action")
    answer = await call(
        plane.app(), signed_operation(EMBERBOX, "AssumeRole", {"roleName": "app", "roleSessionName": "job"}, ann.key)
    )
    assert (answer.status, b"trust policy" in answer.body) == (403, True)  # there is no way around it

    wanted = {"StringEquals": {"sts:ExternalId": "number"}}
    named = trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"}, Condition=wanted)
    await admin.ok(IAM, "UpdateAssumeRolePolicy", RoleName="app", PolicyDocument=named)
    assert (await ann.refused(STS, "AssumeRole", **asked))[1] == "AccessDenied"
    assert await ann.ok(STS, "AssumeRole", **asked, ExternalId="number")
    assert (await admin.refused(STS, "AssumeRole", **asked, ExternalId="number"))[1] == "AccessDenied"


async def test_a_trust_policy_may_ask_for_tls(plane: ControlPlane, admin: Around) -> None:
    ann = await new_user(plane, "ann", "sts:AssumeRole")
    by_tls = trust({"AWS": f"arn:aws:iam::{ACCOUNT}:user/ann"}, Condition={"Bool": {"aws:SecureTransport": "true"}})
    await admin.ok(IAM, "CreateRole", RoleName="app", AssumeRolePolicyDocument=by_tls)
    asked = {"RoleArn": ROLE, "RoleSessionName": "job"}
    assert (await ann.refused(STS, "AssumeRole", **asked))[1] == "AccessDenied"
    behind = Around(Forwarded(plane.app()), ann.key)
    assert (await behind.ok(STS, "AssumeRole", **asked))["Credentials"]


@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:iam::{ACCOUNT}:role/other",
        f"arn:aws:iam::{ACCOUNT}:role/path/app",
        f"arn:aws:iam::{ACCOUNT}:user/app",
        "arn:aws:iam::999999999999:role/app",
        "no ARN at all, app/app",
    ],
)
async def test_a_role_that_is_not_there_is_denied_and_not_told(plane: ControlPlane, admin: Around, arn: str) -> None:
    await own(plane, "PutRole", roleName="app")
    assert (await admin.refused(STS, "AssumeRole", RoleArn=arn, RoleSessionName="job"))[:2] == (403, "AccessDenied")


async def test_a_role_may_assume_another_for_an_hour(plane: ControlPlane, admin: Around) -> None:
    await own(plane, "PutRole", roleName="app", policyDocument=allow("sts:AssumeRole"))
    await own(plane, "PutRole", roleName="next", policyDocument=LISTS)
    ann = await new_user(plane, "ann", "sts:AssumeRole")
    first = ann.by((await ann.ok(STS, "AssumeRole", RoleArn=ROLE, RoleSessionName="job"))["Credentials"])
    asked = {"RoleArn": ROLE.replace("app", "next"), "RoleSessionName": "two"}
    status, code, text = await first.refused(STS, "AssumeRole", **asked, DurationSeconds=3601)
    assert (status, code, "1 hour session limit" in text) == (400, "ValidationError", True)
    second = ann.by((await first.ok(STS, "AssumeRole", **asked))["Credentials"])
    assert await list_microvms(plane, second) == 200
    await own(plane, "DeleteAccessKey", accessKeyId=ann.key.access_key_id)
    assert (await second.refused(STS, "GetCallerIdentity"))[1] == "InvalidClientTokenId"


async def test_a_session_is_no_longer_than_its_role_allows(plane: ControlPlane, admin: Around) -> None:
    await admin.ok(IAM, "CreateRole", RoleName="app", AssumeRolePolicyDocument=trust("*"), MaxSessionDuration=7200)
    asked = {"RoleArn": ROLE, "RoleSessionName": "job"}
    assert await admin.ok(STS, "AssumeRole", **asked, DurationSeconds=7200)
    status, code, text = await admin.refused(STS, "AssumeRole", **asked, DurationSeconds=7201)
    assert (status, code) == (400, "ValidationError")
    assert "MaxSessionDuration" in text


async def test_tags_of_a_session_need_leave_and_count(plane: ControlPlane, admin: Around) -> None:
    tagged = json.loads(LISTS)["Statement"] | {"Condition": {"StringEquals": {"aws:PrincipalTag/team": "red"}}}
    chain = json.loads(allow("sts:AssumeRole", "sts:TagSession"))["Statement"]
    document = json.dumps({"Version": "2012-10-17", "Statement": [tagged, chain]})
    await own(plane, "PutRole", roleName="app", policyDocument=document)
    ann, bob = (await new_user(plane, "ann", "sts:*"), await new_user(plane, "bob", "sts:AssumeRole"))
    asked = {"RoleArn": ROLE, "RoleSessionName": "job"}
    tags = {"Tags": [{"Key": "Team", "Value": "red"}], "TransitiveTagKeys": ["team"]}
    assert (await bob.refused(STS, "AssumeRole", **asked, **tags))[2].endswith("allows the sts:TagSession action")
    plain = ann.by((await ann.ok(STS, "AssumeRole", **asked))["Credentials"])
    assert await list_microvms(plane, plain) == 403
    first = ann.by((await ann.ok(STS, "AssumeRole", **asked, **tags))["Credentials"])
    assert await list_microvms(plane, first) == 200
    second = ann.by((await first.ok(STS, "AssumeRole", **asked))["Credentials"])
    assert await list_microvms(plane, second) == 200  # the tag goes on
    conflict = await first.refused(STS, "AssumeRole", **asked, Tags=[{"Key": "team", "Value": "blue"}])
    assert (conflict[1], "conflicts with a transitive tag key" in conflict[2]) == ("ValidationError", True)


async def test_a_trust_policy_must_let_a_session_be_tagged(plane: ControlPlane, admin: Around) -> None:
    await admin.ok(IAM, "CreateRole", RoleName="app", AssumeRolePolicyDocument=trust("*"))
    asked: dict[str, Any] = {"RoleArn": ROLE, "RoleSessionName": "job", "Tags": [{"Key": "team", "Value": "red"}]}
    assert (await admin.refused(STS, "AssumeRole", **asked))[1] == "AccessDenied"
    only = {"StringEquals": {"aws:RequestTag/team": "red"}}
    both = trust("*", Action=["sts:AssumeRole", "sts:TagSession"], Condition=only)
    await admin.ok(IAM, "UpdateAssumeRolePolicy", RoleName="app", PolicyDocument=both)
    assert await admin.ok(STS, "AssumeRole", **asked)
    wrong = {**asked, "Tags": [{"Key": "team", "Value": "blue"}]}
    assert (await admin.refused(STS, "AssumeRole", **wrong))[1] == "AccessDenied"
    long = asked["Tags"] + [{"Key": str(number), "Value": "v" * 256} for number in range(20)]
    twice = [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]
    for more in ({"TransitiveTagKeys": ["x"]}, {"Tags": long}, {"Tags": twice}):
        assert (await admin.refused(STS, "AssumeRole", **{**asked, **more}))[1] == "ValidationError"
