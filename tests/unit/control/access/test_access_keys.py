"""Accounts, access keys and temporary credentials, from request to answer."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from emberbox.control.access.vault import Vault
from emberbox.model.errors import HostError
from emberbox.model.iam.access import Credential

from .access_world import OPERATOR, RefusedError, World, allow, as_key, start_world

FIRST, SECOND = "111111111111", "222222222222"


async def code_of(world: World, key: Credential) -> str | None:
    """Return the code that a key is refused with, None when it is good."""
    try:
        await world.call(key, "ListMicrovms")
    except RefusedError as refused:
        return refused.code
    return None


async def test_the_first_key_may_do_everything(world: World) -> None:
    assert await code_of(world, world.admin) is None
    accounts = (await world.own(world.admin, "ListAccounts"))["items"]
    assert [account["accountId"] for account in accounts] == [OPERATOR]


async def test_an_account_comes_with_a_user_who_may_do_everything_in_it(world: World) -> None:
    key = await world.new_account(FIRST)
    assert key.account_id == FIRST
    assert await code_of(world, key) is None
    user = await world.new_user(key, "ann", allow("lambda:*"))
    assert await code_of(world, user) is None
    with pytest.raises(RefusedError) as refused:
        await world.new_account(FIRST)
    assert (refused.value.status, refused.value.code) == (409, "ConflictException")


async def test_an_account_without_an_id_gets_one(world: World) -> None:
    made = await world.own(world.admin, "CreateAccount", accountName="x")
    assert len(made["account"]["accountId"]) == 12
    assert made["accessKey"]["accountId"] == made["account"]["accountId"]


async def test_a_key_is_rotated_without_a_gap(world: World) -> None:
    user = await world.new_user(world.admin, "ann", allow("lambda:*"))
    fresh = as_key((await world.own(world.admin, "CreateAccessKey", userName="ann"))["accessKey"])
    assert await code_of(world, user) is await code_of(world, fresh) is None
    old = user.access_key_id
    shown = await world.own(world.admin, "UpdateAccessKey", accessKeyId=old, status="Inactive")
    assert shown["accessKey"]["status"] == "Inactive"
    assert await code_of(world, user) == "UnrecognizedClientException"
    assert await code_of(world, fresh) is None
    await world.own(world.admin, "UpdateAccessKey", accessKeyId=old, status="Active")
    assert await code_of(world, user) is None
    await world.own(world.admin, "DeleteAccessKey", accessKeyId=old)
    assert await code_of(world, user) == "UnrecognizedClientException"
    listed = (await world.own(world.admin, "ListAccessKeys", userName="ann"))["items"]
    assert [key["accessKeyId"] for key in listed] == [fresh.access_key_id]


async def test_a_list_of_keys_has_no_secrets(world: World) -> None:
    user = await world.new_user(world.admin, "ann")
    listed = await world.own(world.admin, "ListAccessKeys")
    assert user.secret_access_key not in json.dumps(listed)
    assert len(listed["items"]) == 2


async def test_the_key_of_the_credentials_file_can_be_neither_disabled_nor_deleted(world: World) -> None:
    key = world.admin.access_key_id
    for operation, more in (("UpdateAccessKey", {"status": "Inactive"}), ("DeleteAccessKey", {})):
        with pytest.raises(RefusedError, match="emberbox keys rotate") as refused:
            await world.own(world.admin, operation, accessKeyId=key, **more)
        assert refused.value.code == "ConflictException"
    assert await code_of(world, world.admin) is None


async def test_the_operators_admin_cannot_be_locked_out(world: World) -> None:
    document = '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}'
    with pytest.raises(RefusedError, match="nobody is locked out"):
        await world.own(world.admin, "PutPolicy", policyName="x", userName="admin", policyDocument=document)


async def test_an_unknown_key_or_account_is_not_found(world: World) -> None:
    unknown: list[tuple[str, dict[str, Any]]] = [
        ("DeleteAccessKey", {"accessKeyId": "AKIAUNKNOWNUNKNOWN00"}),
        ("CreateAccessKey", {"userName": "x", "accountId": SECOND}),
        ("ListAccessKeys", {"accountId": SECOND}),
        ("AssumeRole", {"roleName": "x", "roleSessionName": "me"}),
    ]
    for operation, parameters in unknown:
        with pytest.raises(RefusedError) as refused:
            await world.own(world.admin, operation, **parameters)
        assert (refused.value.status, refused.value.code) == (404, "ResourceNotFoundException")


async def test_keys_survive_a_restart_and_no_secret_is_stored_in_clear(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        user = await world.new_user(world.admin, "ann", allow("lambda:*"))
    async with start_world(tmp_path) as world:
        assert await code_of(world, user) is await code_of(world, world.admin) is None
    content = b"".join(path.read_bytes() for path in tmp_path.glob("emberbox.db*"))
    assert user.access_key_id.encode() in content
    for secret in (user.secret_access_key, world.admin.secret_access_key):
        assert secret.encode() not in content
    key_file = tmp_path / "secrets" / "access.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


async def test_a_lost_encryption_key_is_told_and_not_hidden(tmp_path: Path) -> None:
    sealed = Vault(tmp_path / "a").seal("secret")
    assert Vault(tmp_path / "a").open(sealed) == "secret"
    with pytest.raises(HostError, match="was that file replaced"):
        Vault(tmp_path / "b").open(sealed)


async def test_without_the_encryption_key_the_first_key_is_still_good(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        user = await world.new_user(world.admin, "ann", allow("lambda:*"))
    (tmp_path / "secrets" / "access.key").unlink()
    async with start_world(tmp_path) as world:
        assert await code_of(world, world.admin) is None
        assert await code_of(world, user) == "InternalServerException"
        await world.own(world.admin, "DeleteAccessKey", accessKeyId=user.access_key_id)


async def test_a_new_credentials_file_brings_a_new_key(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        old = world.admin
    (tmp_path / "credentials").unlink()
    async with start_world(tmp_path) as world:
        assert world.admin.access_key_id != old.access_key_id
        assert await code_of(world, world.admin) is await code_of(world, old) is None
        await world.own(world.admin, "DeleteAccessKey", accessKeyId=old.access_key_id)
        assert await code_of(world, old) == "UnrecognizedClientException"


async def test_temporary_credentials_have_the_rights_of_their_user(world: World) -> None:
    user = await world.new_user(world.admin, "ann", allow("lambda:List*", "emberbox:GetSessionToken"))
    shown = (await world.own(user, "GetSessionToken", durationSeconds=900))["credentials"]
    session = as_key(shown)
    assert session.access_key_id.startswith("ASIA")
    left = datetime.fromtimestamp(shown["expiration"], UTC) - datetime.now(UTC)
    assert timedelta(seconds=800) < left <= timedelta(seconds=900)  # the wire rounds
    assert await code_of(world, session) is None
    with pytest.raises(RefusedError, match=r"user/ann is not authorized to perform: lambda:GetMicrovm"):
        await world.call(session, "GetMicrovm", microvmIdentifier="microvm-x")
    with pytest.raises(RefusedError, match="cannot be called with temporary credentials"):
        await world.own(session, "GetSessionToken")


async def test_temporary_credentials_count_only_with_their_own_token(world: World) -> None:
    sessions = [as_key((await world.own(world.admin, "GetSessionToken"))["credentials"]) for _ in range(2)]
    tokens = [None, "", "x", sessions[1].session_token, str(sessions[0].session_token)[:-2] + "AA"]
    for token in tokens:
        assert await code_of(world, replace(sessions[0], session_token=token)) == "UnrecognizedClientException"
    wrong = replace(sessions[0], secret_access_key=sessions[1].secret_access_key)
    assert await code_of(world, wrong) == "InvalidSignatureException"
    assert await code_of(world, sessions[0]) is None


async def test_temporary_credentials_end_with_the_key_that_asked_for_them(world: World) -> None:
    user = await world.new_user(world.admin, "ann", allow("*"))
    session = as_key((await world.own(user, "GetSessionToken"))["credentials"])
    assert await code_of(world, session) is None
    await world.own(world.admin, "UpdateAccessKey", accessKeyId=user.access_key_id, status="Inactive")
    assert await code_of(world, session) == "UnrecognizedClientException"


async def test_a_role_is_assumed_with_its_own_rights(world: World) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [allow("lambda:ListMicrovms")]})
    await world.own(world.admin, "PutRole", roleName="reader", policyDocument=document)
    arn = f"arn:aws:iam::{OPERATOR}:role/reader"
    user = await world.new_user(world.admin, "ann", allow("sts:AssumeRole", resource=arn))
    assumed = await world.own(user, "AssumeRole", roleName="reader", roleSessionName="job-1")
    session = as_key(assumed["credentials"])
    assert await code_of(world, session) is None
    assert await code_of(world, user) == "AccessDeniedException"
    who = f"User: arn:aws:sts::{OPERATOR}:assumed-role/reader/job-1 is not authorized to perform: "
    with pytest.raises(RefusedError, match=who):
        await world.call(session, "GetMicrovm", microvmIdentifier="microvm-x")
    with pytest.raises(RefusedError, match=r"not authorized to perform: sts:AssumeRole"):
        await world.own(user, "AssumeRole", roleName="other", roleSessionName="job-1")
    await world.own(world.admin, "DeleteRole", roleName="reader")
    assert await code_of(world, session) == "UnrecognizedClientException"


@pytest.mark.parametrize(("name", "value"), [("durationSeconds", 899), ("durationSeconds", 129_601)])
async def test_a_session_has_bounds(world: World, name: str, value: int) -> None:
    with pytest.raises(RefusedError, match=name):
        await world.own(world.admin, "GetSessionToken", **{name: value})
