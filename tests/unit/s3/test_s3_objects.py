"""What clients do with objects: contents, checksums, conditions, versions, parts, listings."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import http.client
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from emberbox.images.artifact import fetch
from emberbox.model.errors import BuildError
from support.s3 import World

Refused = Callable[..., tuple[int, str]]


@pytest.fixture
def refused() -> Refused:
    """Returns status and code of a call that must fail."""

    def call(method: Callable[..., Any], **parameters: Any) -> tuple[int, str]:
        with pytest.raises(ClientError) as caught:
            method(**parameters)
        response = caught.value.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]

    return call


def md5(content: bytes) -> Any:
    return hashlib.md5(content, usedforsecurity=False)


def read(s3: Any, bucket: str, key: str, **more: Any) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read())


def test_what_is_put_comes_back_with_all_that_was_said_about_it(world: World, bucket: str) -> None:
    s3 = world.client()
    described = {
        "ContentType": "text/x",
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="a"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "Metadata": {"lower": "value", "other": "1"},
        "WebsiteRedirectLocation": "/x",
        "StorageClass": "STANDARD_IA",
    }
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"content", **described, Tagging="a=1&b=%20x")
    assert put["ETag"] == f'"{md5(b"content").hexdigest()}"'
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in described} == described
        assert (answer["ContentLength"], answer["ETag"]) == (7, put["ETag"])
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": " x"},
    ]
    overridden = s3.get_object(Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseContentDisposition="inline")
    assert (overridden["ContentType"], overridden["ContentDisposition"]) == ("a/b", "inline")
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert (answer["Body"].read(), answer["Metadata"], answer["ContentType"]) == (b"", {}, "binary/octet-stream")


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "a/b",
        "a//b",
        "../x",
        "a/../../x",
        "./.",
        "/lead",
        "trail/",
        "ü/日本",
        "sp ace+%2F?&=#",
        "x" * 1024,
        "\x01\n",
    ],
)
def test_any_text_is_a_key_and_no_key_is_a_path(world: World, new_name: Callable[[], str], key: str) -> None:
    s3, bucket = world.client(), new_name()
    s3.create_bucket(Bucket=bucket)
    before = {path for path in world.home.path.parent.rglob("*") if "files" not in path.parts}
    s3.put_object(Bucket=bucket, Key="a", Body=b"beside")
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert read(s3, bucket, key) == key.encode()
    assert {one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]} == {"a", key}
    assert {path for path in world.home.path.parent.rglob("*") if "files" not in path.parts} == before
    s3.delete_object(Bucket=bucket, Key=key)
    assert [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])] == (
        [] if key == "a" else ["a"]
    )


def test_keys_that_cannot_be_are_refused(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    assert refused(s3.put_object, Bucket=bucket, Key="x" * 1025, Body=b"") == (400, "KeyTooLongError")
    assert refused(s3.put_object, Bucket=bucket, Key="a\0b", Body=b"") == (400, "InvalidURI")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME", "SHA512"])
def test_a_checksum_is_checked_kept_and_given_back(world: World, bucket: str, algorithm: str, refused: Refused) -> None:
    s3 = world.client()
    known = {"CRC32": "y/Q5Jg==", "CRC32C": "4waSgw==", "CRC64NVME": "rosUhgp5mIg="}
    value = known.get(algorithm) or base64.b64encode(hashlib.new(algorithm, b"123456789").digest()).decode()
    stated = {f"Checksum{algorithm}": value}
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"123456789", **stated)
    assert put[f"Checksum{algorithm}"] == value
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (value, "FULL_OBJECT")
    wrong = base64.b64encode(bytes(len(base64.b64decode(value)))).decode()
    parameters = {"Bucket": bucket, "Key": "k", "Body": b"changed", f"Checksum{algorithm}": wrong}
    assert refused(s3.put_object, **parameters) == (400, "BadDigest")
    assert read(s3, bucket, "k") == b"123456789"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectSize", "ETag"])
    assert (attributes["Checksum"][f"Checksum{algorithm}"], attributes["ObjectSize"]) == (value, 9)


def test_wrong_digests_change_nothing(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client(request_checksum_calculation="when_required")
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    digest = base64.b64encode(md5(b"other").digest()).decode()
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", ContentMD5=digest) == (400, "BadDigest")
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", ContentMD5="x") == (400, "InvalidDigest")
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"n", ChecksumCRC32="AA") == (400, "InvalidRequest")
    assert read(s3, bucket, "k") == b"old"


def test_conditions_of_writes(world: World, bucket: str, refused: Refused) -> None:
    s3, where = world.client(), {"Bucket": bucket, "Key": "k"}
    assert refused(s3.put_object, **where, Body=b"x", IfMatch='"0"') == (404, "NoSuchKey")
    first = s3.put_object(**where, Body=b"one", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, **where, Body=b"two", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert refused(s3.put_object, **where, Body=b"two", IfMatch='"0"') == (412, "PreconditionFailed")
    assert refused(s3.put_object, **where, Body=b"two", IfNoneMatch='"0"') == (501, "NotImplemented")
    source = {"Bucket": bucket, "Key": "k"}
    assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"0"')[0] == 412
    s3.copy_object(Bucket=bucket, Key="c", CopySource=source, IfNoneMatch="*")
    assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource=source, IfNoneMatch="*")[0] == 412
    assert refused(s3.delete_object, **where, IfMatch='"0"') == (412, "PreconditionFailed")
    assert read(s3, bucket, "k") == b"one"
    s3.put_object(**where, Body=b"two", IfMatch=first)
    s3.delete_object(**where, IfMatch=md5(b"two").hexdigest())
    assert refused(s3.get_object, **where) == (404, "NoSuchKey")


def test_conditions_of_reads(world: World, bucket: str, refused: Refused) -> None:
    s3, where = world.client(), {"Bucket": bucket, "Key": "k"}
    etag = s3.put_object(**where, Body=b"one")["ETag"]
    now = datetime.now(UTC)
    for method in (s3.get_object, s3.head_object):
        assert method(**where, IfMatch=etag, IfUnmodifiedSince=now - timedelta(days=1))["ContentLength"] == 3
        assert method(**where, IfNoneMatch='"0"')["ContentLength"] == 3
        assert refused(method, **where, IfMatch='"0"')[0] == 412
        assert refused(method, **where, IfUnmodifiedSince=now - timedelta(days=1))[0] == 412
        assert refused(method, **where, IfNoneMatch=etag)[0] == 304
        assert refused(method, **where, IfModifiedSince=now + timedelta(seconds=1))[0] == 304


def test_of_many_who_write_only_if_nothing_is_there_one_wins(world: World, bucket: str) -> None:
    clients = [world.client() for _ in range(8)]

    def write(number: int) -> int | None:
        try:
            clients[number].put_object(Bucket=bucket, Key="lock", Body=str(number).encode() * 100_000, IfNoneMatch="*")
        except ClientError as error:
            return None if error.response["Error"]["Code"] == "PreconditionFailed" else -1
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(8)) if number is not None]
    assert len(winners) == 1
    assert winners[0] >= 0
    assert read(clients[0], bucket, "lock") == str(winners[0]).encode() * 100_000


def test_ranges(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    for asked, expected in (("0-0", b"0"), ("3-5", b"345"), ("8-", b"89"), ("-2", b"89"), ("5-99", b"56789")):
        answer = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={asked}")
        assert (answer["Body"].read(), answer["ResponseMetadata"]["HTTPStatusCode"]) == (expected, 206)
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=3-5")["ContentRange"] == "bytes 3-5/10"
    for asked in ("10-", "-0", "99-100"):
        assert refused(s3.get_object, Bucket=bucket, Key="k", Range=f"bytes={asked}") == (416, "InvalidRange")
    assert read(s3, bucket, "k", Range="bytes=1-2,4-5") == b"0123456789"


def test_copies_take_over_or_replace(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    s3.put_object(Bucket=bucket, Key="ä b", Body=b"x" * 1000, Metadata={"m": "1"}, Tagging="t=1", ContentType="a/b")
    source = {"Bucket": bucket, "Key": "ä b"}
    s3.copy_object(Bucket=bucket, Key="same", CopySource=source)
    same = s3.head_object(Bucket=bucket, Key="same")
    assert (same["Metadata"], same["ContentType"], same["TagCount"]) == ({"m": "1"}, "a/b", 1)
    more = {"MetadataDirective": "REPLACE", "TaggingDirective": "REPLACE", "Metadata": {"n": "2"}, "Tagging": "u=2"}
    s3.copy_object(Bucket=bucket, Key="other", CopySource=source, **more, ChecksumAlgorithm="SHA256")
    other = s3.head_object(Bucket=bucket, Key="other", ChecksumMode="ENABLED")
    assert (other["Metadata"], other["ContentType"]) == ({"n": "2"}, "binary/octet-stream")
    assert other["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"x" * 1000).digest()).decode()
    assert s3.get_object_tagging(Bucket=bucket, Key="other")["TagSet"] == [{"Key": "u", "Value": "2"}]
    assert refused(s3.copy_object, Bucket=bucket, Key="ä b", CopySource=source) == (400, "InvalidRequest")
    s3.copy_object(Bucket=bucket, Key="ä b", CopySource=source, MetadataDirective="REPLACE", Metadata={"z": "9"})
    s3.delete_object(Bucket=bucket, Key="ä b")
    assert read(s3, bucket, "same") == read(s3, bucket, "other") == b"x" * 1000
    gone = {"Bucket": bucket, "Key": "ä b"}
    assert refused(s3.copy_object, Bucket=bucket, Key="c", CopySource=gone) == (404, "NoSuchKey")


def test_what_would_mean_something_that_is_not_done_is_refused(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    for more in (
        {"WriteOffsetBytes": 3},
        {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime(2030, 1, 1, tzinfo=UTC)},
        {"ObjectLockLegalHoldStatus": "ON"},
        {"SSEKMSEncryptionContext": "e30="},
    ):
        assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"new", **more) == (501, "NotImplemented")
    assert read(s3, bucket, "k") == b"old"


def test_object_acls_are_kept_beside_the_object(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    grants = s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]
    assert [one["Permission"] for one in grants] == ["FULL_CONTROL", "READ"]
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    assert len(s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]) == 1
    policy = s3.get_object_acl(Bucket=bucket, Key="k")
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy={name: policy[name] for name in ("Owner", "Grants")})
    assert s3.get_object_acl(Bucket=bucket, Key="k")["Grants"] == policy["Grants"]
    s3.put_object_acl(Bucket=bucket, Key="k", GrantRead='id="abc"')
    assert s3.get_object_acl(Bucket=bucket, Key="k")["Grants"][0]["Grantee"] == {"Type": "CanonicalUser", "ID": "abc"}
    assert refused(s3.put_object_acl, Bucket=bucket, Key="k", ACL="open") == (400, "InvalidArgument")
    assert read(s3, bucket, "k") == b"x"


def test_buckets_of_ones_own(world: World, bucket: str, refused: Refused) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert refused(s3.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    for name in ("ab", "Upper", "a..b", "1.2.3.4", "x" * 64):
        assert refused(s3.create_bucket, Bucket=name) == (400, "InvalidBucketName")
    assert refused(s3.get_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    s3.delete_object(Bucket=bucket, Key="k")
    s3.delete_bucket(Bucket=bucket)
    assert refused(s3.head_bucket, Bucket=bucket)[0] == 404


def test_versions(world: World, bucket: str, refused: Refused) -> None:
    s3, where = world.client(), {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"zero")
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first, second = (s3.put_object(**where, Body=body)["VersionId"] for body in (b"one", b"two"))
    assert read(s3, bucket, "k") == b"two"
    assert [read(s3, bucket, "k", VersionId=one) for one in ("null", first, second)] == [b"zero", b"one", b"two"]
    marker = s3.delete_object(**where)
    assert marker["DeleteMarker"]
    assert refused(s3.get_object, **where) == (404, "NoSuchKey")
    assert refused(s3.get_object, **where, VersionId=marker["VersionId"]) == (405, "MethodNotAllowed")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    listed = s3.list_object_versions(Bucket=bucket)
    assert [one["VersionId"] for one in listed["Versions"]] == [second, first, "null"]
    assert [one["VersionId"] for one in listed["DeleteMarkers"] if one["IsLatest"]] == [marker["VersionId"]]
    s3.delete_object(**where, VersionId=marker["VersionId"])
    assert read(s3, bucket, "k") == b"two"
    s3.delete_object(**where, VersionId=second)
    assert read(s3, bucket, "k") == b"one"
    s3.copy_object(**where, CopySource={**where, "VersionId": "null"})
    assert read(s3, bucket, "k") == b"zero"
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    s3.put_object(**where, Body=b"three")
    assert read(s3, bucket, "k", VersionId="null") == b"three"
    assert refused(s3.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1})
    everything = [one for page in pages for one in page.get("Versions", [])]
    assert len(everything) == 3
    gone = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in everything]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": gone})["Deleted"]) == 3
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("more", [{}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC64NVME"}])
def test_an_upload_in_parts_becomes_one_object(
    world: World, bucket: str, refused: Refused, more: dict[str, str]
) -> None:
    s3, where = world.client(), {"Bucket": bucket, "Key": "k"}
    content = os.urandom((11 << 20) + 5)
    created = s3.create_multipart_upload(**where, Metadata={"m": "1"}, Tagging="t=1", **more)
    upload = {**where, "UploadId": created["UploadId"]}
    cuts = (content[: 5 << 20], content[5 << 20 : 10 << 20], content[10 << 20 :])
    parts = []
    for number, data in enumerate(cuts, 1):
        computed = {} if "CRC64NVME" in more.values() else more  # botocore alone cannot
        s3.upload_part(**upload, PartNumber=number, Body=b"replaced later", **computed)
        part = s3.upload_part(**upload, PartNumber=number, Body=data, **computed)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    assert [one["Size"] for one in s3.list_parts(**upload)["Parts"]] == [len(one) for one in cuts]
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["k"]
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    wrong = [{**parts[0], "ETag": '"0"'}, *parts[1:]]
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload={"Parts": wrong}) == (400, "InvalidPart")
    swapped = {"Parts": parts[::-1]}
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload=swapped) == (400, "InvalidPartOrder")
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    md5s = b"".join(md5(one).digest() for one in cuts)
    assert done["ETag"] == f'"{md5(md5s).hexdigest()}-3"'
    if "SHA256" in more.values():
        composite = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in cuts)).digest()
        assert done["ChecksumSHA256"] == base64.b64encode(composite).decode() + "-3"
    assert read(s3, bucket, "k") == content
    assert (
        read(s3, bucket, "k", Range=f"bytes={(5 << 20) - 3}-{(10 << 20) + 2}")
        == content[(5 << 20) - 3 : (10 << 20) + 3]
    )
    second = s3.get_object(**where, PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (cuts[1], 3)
    assert s3.head_object(**where)["Metadata"] == {"m": "1"}
    assert refused(s3.list_parts, **upload) == (404, "NoSuchUpload")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=where)
    s3.delete_object(**where)
    assert read(s3, bucket, "copy") == content


def test_parts_that_are_too_small_or_gone(world: World, bucket: str, refused: Refused) -> None:
    s3, where = world.client(), {"Bucket": bucket, "Key": "k"}
    s3.put_object(**where, Body=b"0123456789")
    upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    first = s3.upload_part(**upload, PartNumber=1, Body=b"small")["ETag"]
    copied = s3.upload_part_copy(**upload, PartNumber=2, CopySource=where, CopySourceRange="bytes=2-4")
    parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": copied["CopyPartResult"]["ETag"]}]
    assert copied["CopyPartResult"]["ETag"] == f'"{md5(b"234").hexdigest()}"'
    chosen = {"Parts": parts}
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload=chosen) == (400, "EntityTooSmall")
    last = {"Parts": parts[1:]}
    assert refused(s3.complete_multipart_upload, **upload, MultipartUpload=last, IfNoneMatch="*")[0] == 412
    assert read(s3, bucket, "k") == b"0123456789"
    s3.complete_multipart_upload(**upload, MultipartUpload=last, IfMatch=s3.head_object(**where)["ETag"])
    assert read(s3, bucket, "k") == b"234"
    other = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
    s3.abort_multipart_upload(**other)
    assert refused(s3.upload_part, **other, PartNumber=1, Body=b"x") == (404, "NoSuchUpload")
    assert refused(s3.upload_part, **upload, PartNumber=10_001, Body=b"x")[0] in (400, 404)


def test_boto3_transfers_files_both_ways(world: World, bucket: str, tmp_path: Path) -> None:
    s3 = world.client()
    content = os.urandom(20 << 20)
    (tmp_path / "up").write_bytes(content)
    s3.upload_file(str(tmp_path / "up"), bucket, "f", Config=TransferConfig(multipart_chunksize=6 << 20))
    s3.download_file(bucket, "f", str(tmp_path / "down"), Config=TransferConfig(multipart_threshold=1 << 20))
    assert (tmp_path / "down").read_bytes() == content
    crc = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    s3.upload_file(
        str(tmp_path / "up"), bucket, "g", ExtraArgs={"ChecksumType": "FULL_OBJECT", "ChecksumAlgorithm": "CRC32"}
    )
    assert s3.head_object(Bucket=bucket, Key="g", ChecksumMode="ENABLED")["ChecksumCRC32"] == crc


def test_listings_roll_up_and_page(world: World, bucket: str) -> None:
    s3 = world.client()
    keys = ["a", "a/1", "a/2", "a/b/3", "a0", "b", "c/x", "ü/ö", "\U0001f600", "z z+z"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    ordered = sorted(keys, key=str.encode)
    for size in (1, 2, 3, 1000):
        for name in ("list_objects_v2", "list_objects"):
            pages = list(s3.get_paginator(name).paginate(Bucket=bucket, PaginationConfig={"PageSize": size}))
            assert [one["Key"] for page in pages for one in page.get("Contents", [])] == ordered
            rolled = list(
                s3.get_paginator(name).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": size})
            )
            assert [one["Key"] for page in rolled for one in page.get("Contents", [])] == [
                key for key in ordered if "/" not in key
            ]
            assert [one["Prefix"] for page in rolled for one in page.get("CommonPrefixes", [])] == ["a/", "c/", "ü/"]
            below = s3.get_paginator(name).paginate(
                Bucket=bucket, Prefix="a/", Delimiter="/", PaginationConfig={"PageSize": size}
            )
            assert [one["Key"] for page in below for one in page.get("Contents", [])] == ["a/1", "a/2"]
    assert s3.list_objects_v2(Bucket=bucket, StartAfter="a/2")["Contents"][0]["Key"] == "a/b/3"
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "missing"]]})
    assert len(answer["Deleted"]) == len(keys) + 1
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_whoever_does_not_know_the_secret_is_refused(world: World, bucket: str, refused: Refused) -> None:
    wrong = world.client(replace(world.home.operator, secret_access_key="wrong"))
    nobody = world.client(replace(world.home.operator, access_key_id="AKIANOBODY"))
    assert refused(wrong.list_buckets) == (403, "SignatureDoesNotMatch")
    assert refused(nobody.list_buckets) == (403, "InvalidAccessKeyId")
    assert refused(world.client(signature_version=UNSIGNED).get_object, Bucket=bucket, Key="k") == (403, "AccessDenied")


def test_a_read_goes_on_when_the_object_is_replaced_under_it(world: World, bucket: str) -> None:
    s3 = world.client()
    content = os.urandom(64 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=content)
    body = s3.get_object(Bucket=bucket, Key="k")["Body"]
    begun = body.read(1 << 20)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert begun + body.read() == content
    assert read(s3, bucket, "k") == b"new"


async def test_an_artifact_is_fetched_and_its_absence_has_a_reason(world: World, bucket: str, tmp_path: Path) -> None:
    s3 = world.client()
    s3.put_object(Bucket=bucket, Key="app/v 1.zip", Body=b"PK...")
    await fetch(s3, f"s3://{bucket}/app/v 1.zip", tmp_path / "a.zip", 1000)
    assert (tmp_path / "a.zip").read_bytes() == b"PK..."
    for uri, reason in ((f"s3://{bucket}/missing", "S3_NO_SUCH_KEY"), ("s3://missing/key", "S3_NO_SUCH_BUCKET")):
        with pytest.raises(BuildError) as caught:
            await fetch(s3, uri, tmp_path / "b.zip", 1000)
        assert caught.value.reason == reason


def test_a_request_that_is_not_signed_is_answered_before_its_body(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=30)
    connection.putrequest("PUT", "/bucket/key")
    connection.putheader("Content-Length", str(1 << 40))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
