"""The keys of all accounts: each sees its own buckets, may do what its policies say, and only while its key counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emberbox.control.access.artifact_reader import reader_credential
from emberbox.images.artifact import fetch
from emberbox.model.errors import BuildError
from emberbox.model.iam.access import Credential, KeyStatus, PrincipalKind
from support.s3 import OPERATOR, World

RED, BLUE = "111111111111", "222222222222"


def code_of(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_a_bucket_is_its_accounts_alone(world: World, new_name: Callable[[], str]) -> None:
    red, blue, operator = (
        world.client(world.home.add_user(RED)),
        world.client(world.home.add_user(BLUE)),
        world.client(),
    )
    name = new_name()
    red.create_bucket(Bucket=name)
    red.put_object(Bucket=name, Key="k", Body=b"red")
    for other in (blue, operator):
        assert name not in {one["Name"] for one in other.list_buckets()["Buckets"]}
        assert code_of(other.create_bucket, Bucket=name) == "BucketAlreadyExists"
        for call, more in (
            (other.get_object, {"Key": "k"}),
            (other.put_object, {"Key": "k", "Body": b"x"}),
            (other.delete_object, {"Key": "k"}),
            (other.put_object_tagging, {"Key": "k", "Tagging": {"TagSet": []}}),
            (other.list_objects_v2, {}),
            (other.delete_objects, {"Delete": {"Objects": [{"Key": "k"}]}}),
            (other.delete_bucket, {}),
            (other.get_bucket_policy, {}),
            (other.create_multipart_upload, {"Key": "k"}),
        ):
            assert code_of(call, Bucket=name, **more) == "AccessDenied"
        own = new_name()
        other.create_bucket(Bucket=own)
        assert code_of(other.copy_object, Bucket=own, Key="k", CopySource=f"{name}/k") == "AccessDenied"
    assert red.get_object(Bucket=name, Key="k")["Body"].read() == b"red"
    assert code_of(red.get_object, Bucket=name, Key="k", ExpectedBucketOwner=BLUE) == "AccessDenied"
    assert red.get_object(Bucket=name, Key="k", ExpectedBucketOwner=RED)["ContentLength"] == 3


def test_keys_count_from_when_they_are_made_until_they_are_disabled(world: World, bucket: str) -> None:
    user = world.home.add_user(OPERATOR, "later")
    s3 = world.client(user)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    world.home.store.set_key_status(user.access_key_id, KeyStatus.INACTIVE)
    assert code_of(s3.get_object, Bucket=bucket, Key="k") == "InvalidAccessKeyId"
    world.home.store.set_key_status(user.access_key_id, KeyStatus.ACTIVE)
    assert s3.get_object(Bucket=bucket, Key="k")["ContentLength"] == 1
    world.home.store.remove_key(user.access_key_id)
    assert code_of(s3.get_object, Bucket=bucket, Key="k") == "InvalidAccessKeyId"


def test_temporary_credentials(world: World, bucket: str) -> None:
    user = world.home.add_user(OPERATOR, "with-sessions")

    def session(duration_s: int) -> Credential:
        made = world.home.identities.start_session(
            OPERATOR, PrincipalKind.USER, "with-sessions", "", duration_s, by=user.access_key_id
        )
        return Credential(made.access_key_id, made.secret_access_key, OPERATOR, made.session_token)

    good = world.client(session(900))
    good.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = good.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k"})
    assert "X-Amz-Security-Token" in url or "x-amz-security-token" in url
    assert code_of(world.client(session(-1)).list_buckets) == "ExpiredToken"
    made = session(900)
    swapped = Credential(made.access_key_id, made.secret_access_key, OPERATOR, "not-a-token")
    assert code_of(world.client(swapped).list_buckets) == "InvalidToken"
    without = Credential(made.access_key_id, made.secret_access_key, OPERATOR)
    assert code_of(world.client(without).list_buckets) == "InvalidAccessKeyId"
    world.home.store.set_key_status(user.access_key_id, KeyStatus.INACTIVE)
    assert code_of(good.list_buckets) == "InvalidToken"


def test_whose_a_bucket_is_decides(world: World, bucket: str, new_name: Callable[[], str]) -> None:
    """The policy of `cdk bootstrap` for those who publish assets has this condition."""

    def user(name: str, account: str, key: str) -> Any:
        condition = {"StringEquals": {key: account}}
        statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": condition}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        return world.client(world.home.add_user(OPERATOR, name, policy))

    for number, key in enumerate(("aws:ResourceAccount", "s3:ResourceAccount")):
        s3, other = user(f"publisher{number}", OPERATOR, key), user(f"stranger{number}", RED, key)
        s3.get_bucket_location(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        s3.create_bucket(Bucket=new_name())
        assert code_of(other.put_object, Bucket=bucket, Key="k", Body=b"x") == "AccessDenied"


def test_policies_decide(world: World, bucket: str) -> None:
    statement = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject"],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/${{aws:username}}/*"],
    }
    deny = {
        "Effect": "Deny",
        "Action": "s3:*",
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/secret": "yes"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement, deny]})
    s3, admin = world.client(world.home.add_user(OPERATOR, "ann", policy)), world.client()
    s3.put_object(Bucket=bucket, Key="ann/k", Body=b"x")
    admin.put_object(Bucket=bucket, Key="bob/k", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="ann/k")["ContentLength"] == 1
    for call, more in (
        (s3.get_object, {"Key": "bob/k"}),
        (s3.put_object, {"Key": "bob/k", "Body": b"y"}),
        (s3.put_object, {"Key": "ann/k", "Body": b"y", "Tagging": "a=b"}),
        (s3.put_object_tagging, {"Key": "ann/k", "Tagging": {"TagSet": []}}),
        (s3.copy_object, {"Key": "ann/c", "CopySource": f"{bucket}/bob/k"}),
        (s3.put_bucket_policy, {"Policy": "{}"}),
        (s3.delete_bucket, {}),
    ):
        assert code_of(call, Bucket=bucket, **more) == "AccessDenied"
    keys = [{"Key": "bob/k"}, {"Key": "ann/none"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    assert [one["Key"] for one in answer["Errors"]] == ["bob/k"]
    admin.put_object_tagging(Bucket=bucket, Key="ann/k", Tagging={"TagSet": [{"Key": "secret", "Value": "yes"}]})
    assert code_of(s3.get_object, Bucket=bucket, Key="ann/k") == "AccessDenied"
    assert code_of(s3.list_buckets) == "AccessDenied"
    assert admin.get_object(Bucket=bucket, Key="bob/k")["ContentLength"] == 1


async def test_a_build_reads_its_accounts_buckets_and_those_that_the_operator_grants(
    world: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    red, name = world.client(world.home.add_user(RED)), new_name()
    red.create_bucket(Bucket=name)
    red.put_object(Bucket=name, Key="a.zip", Body=b"PK")
    reader = world.client(reader_credential(world.home.path, OPERATOR))
    uri = f"s3://{name}/a.zip"
    await fetch(reader, uri, tmp_path / "one", 100, RED)
    await fetch(reader, uri, tmp_path / "two", 100, None)
    with pytest.raises(BuildError) as caught:
        await fetch(reader, uri, tmp_path / "three", 100, BLUE)
    assert caught.value.reason == "S3_ACCESS_DENIED"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    for call, more in ((reader.put_object, {"Key": "a.zip", "Body": b"x"}), (reader.list_objects_v2, {})):
        assert code_of(call, Bucket=name, **more) == "AccessDenied"
    assert code_of(reader.list_buckets) == "AccessDenied"
