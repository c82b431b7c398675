"""Every operation of S3's model, asked once: it answers as modelled or 501, and changes what it is about alone."""

from __future__ import annotations

import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape

from emberbox.spec.models import load_operation, operation_names
from support.s3 import World

OPERATIONS = operation_names("s3")
KEPT, MEANT = "kept", "meant"
BODY, TAGS, METADATA = b"precious", [{"Key": "k", "Value": "v"}], {"note": "n"}
TAGGED = [{"Key": "new", "Value": "tag"}]

# What changes an object on purpose is asked about another one.
ON_ANOTHER_OBJECT = {
    "PutObject",
    "CopyObject",
    "DeleteObject",
    "DeleteObjects",
    "RenameObject",
    "RestoreObject",
    "UpdateObjectEncryption",
    "CreateMultipartUpload",
    "UploadPart",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "ListParts",
}
ON_ANOTHER_BUCKET = {"DeleteBucket", "CreateBucket"}
ABSENT = {  # modelled refusals of what is not there
    "GetBucketTagging": "NoSuchTagSet",
    "GetBucketPolicy": "NoSuchBucketPolicy",
    "GetBucketPolicyStatus": "NoSuchBucketPolicy",
    "GetBucketCors": "NoSuchCORSConfiguration",
    "GetBucketLifecycleConfiguration": "NoSuchLifecycleConfiguration",
    "GetBucketLifecycle": "NoSuchLifecycleConfiguration",
    "GetBucketEncryption": "ServerSideEncryptionConfigurationNotFoundError",
    "GetPublicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "GetBucketOwnershipControls": "OwnershipControlsNotFoundError",
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    **{
        f"{verb}Bucket{kind}Configuration": "NoSuchConfiguration"
        for kind in ("Analytics", "Inventory", "Metrics", "IntelligentTiering")
        for verb in ("Get", "Delete")
    },
}
NOT_IMPLEMENTED = {
    "CreateBucketMetadataConfiguration",
    "CreateBucketMetadataTableConfiguration",
    "CreateSession",
    "DeleteBucketMetadataConfiguration",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteObjectAnnotation",
    "GetBucketAbac",
    "GetBucketMetadataConfiguration",
    "GetBucketMetadataTableConfiguration",
    "GetObjectAnnotation",
    "GetObjectLegalHold",
    "GetObjectLockConfiguration",
    "GetObjectRetention",
    "GetObjectTorrent",
    "ListDirectoryBuckets",
    "ListObjectAnnotations",
    "PutBucketAbac",
    "PutObjectAnnotation",
    "PutObjectLegalHold",
    "PutObjectLockConfiguration",
    "PutObjectRetention",
    "RenameObject",
    "RestoreObject",
    "SelectObjectContent",
    "UpdateBucketMetadataAnnotationTableConfiguration",
    "UpdateBucketMetadataInventoryTableConfiguration",
    "UpdateBucketMetadataJournalTableConfiguration",
    "UpdateObjectEncryption",
    "WriteGetObjectResponse",
}


def sample(shape: Shape, name: str = "") -> Any:
    """Return a value that the model accepts: of structures what they require, and no more."""
    match shape.type_name:
        case "structure":
            needed = shape.metadata.get("required") or list(shape.members)[:1]
            return {key: sample(shape.members[key], key) for key in needed}
        case "list":
            return [sample(shape.member, name)]
        case "map":
            return {"k": "v"}
        case "integer" | "long":
            return 1
        case "boolean":
            return False
        case "timestamp":
            return datetime(2030, 1, 1, tzinfo=UTC)
        case "blob":
            return b"new"
    if shape.metadata.get("enum"):
        return shape.metadata["enum"][0]
    return '{"Version":"2012-10-17","Statement":[]}' if name == "Policy" else "x"


def parameters(operation: OperationModel, bucket: str, upload: str) -> dict[str, Any]:
    shape = operation.input_shape
    if shape is None:
        return {}
    values = {key: sample(shape.members[key], key) for key in shape.metadata.get("required", ())}
    payload = shape.serialization.get("payload")
    if payload:
        values.setdefault(payload, sample(shape.members[payload], payload))
    special = {
        "Bucket": f"{bucket}-2" if operation.name in ON_ANOTHER_BUCKET else bucket,
        "Key": MEANT if operation.name in ON_ANOTHER_OBJECT else KEPT,
        "CopySource": f"{bucket}/{KEPT}",
        "RenameSource": f"/{bucket}/{KEPT}",
        "UploadId": upload,
        "Delete": {"Objects": [{"Key": MEANT}]},
        "Tagging": {"TagSet": TAGGED},
        "VersioningConfiguration": {"Status": "Enabled"},
        "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"7f4e5b3e4a0e2a1f"'}]},
        "AnalyticsConfiguration": {"Id": "x", "StorageClassAnalysis": {}},
        "MetricsConfiguration": {"Id": "x"},
        "ObjectAttributes": ["ETag"],
        "CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"},
        "AccessControlPolicy": {"Owner": {"ID": "x"}, "Grants": []},
        "ObjectEncryption": {"SSEKMS": {"KMSKeyArn": f"arn:aws:kms:us-east-1:000000000000:key/{uuid.UUID(int=1)}"}},
        "InputSerialization": {"CSV": {}},
        "OutputSerialization": {"CSV": {}},
        "ReplicationConfiguration": {
            "Role": "x",
            "Rules": [{"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::y"}}],
        },
    }
    if operation.name == "PutBucketNotification":  # the older form
        special["NotificationConfiguration"] = {"TopicConfiguration": {"Topic": "x", "Event": "s3:ObjectCreated:*"}}
    return values | {key: value for key, value in special.items() if key in values}


class Scene:
    """A bucket with two objects, an upload, and another bucket."""

    def __init__(self, world: World, name: str) -> None:
        self.s3 = world.client(inject_host_prefix=False)
        self.bucket = name
        for one in (name, f"{name}-2"):
            self.s3.create_bucket(Bucket=one)
        for key in (KEPT, MEANT):
            self.s3.put_object(Bucket=name, Key=key, Body=BODY, Tagging="k=v", Metadata=METADATA)
        self.upload = self.s3.create_multipart_upload(Bucket=name, Key=MEANT)["UploadId"]
        self.etag = self.s3.upload_part(Bucket=name, Key=MEANT, UploadId=self.upload, PartNumber=1, Body=b"new")["ETag"]

    def content(self, key: str) -> bytes | None:
        try:
            return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return None

    def tags(self, key: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.s3.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return found

    def keys(self) -> set[str]:
        return {one["Key"] for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])}

    def buckets(self) -> set[str]:
        return {one["Name"] for one in self.s3.list_buckets()["Buckets"]}


def ask(scene: Scene, name: str) -> tuple[int, str]:
    """Call an operation; return the status and the error's code."""
    values = parameters(load_operation("s3", name), scene.bucket, scene.upload)
    if name == "CompleteMultipartUpload":
        values["MultipartUpload"]["Parts"][0]["ETag"] = scene.etag
    method = xform_name(name)
    try:
        answer = getattr(scene.s3, method)(**values)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return answer["ResponseMetadata"]["HTTPStatusCode"], ""


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_answers_and_leaves_everything_else_alone(
    world: World, new_name: Callable[[], str], name: str
) -> None:
    scene = Scene(world, new_name())
    before = scene.buckets()
    status, code = ask(scene, name)
    if name in NOT_IMPLEMENTED:
        assert status == 501
        assert code in ("NotImplemented", "501")
    elif name in ABSENT:
        assert (status, code) == (404, ABSENT[name])
    else:
        assert status in (200, 204), code
        assert not code

    changed = {"PutObject": b"new", "CompleteMultipartUpload": b"new", "DeleteObject": None, "DeleteObjects": None}
    assert scene.content(KEPT) == BODY
    assert scene.content(MEANT) == changed.get(name, BODY)
    assert scene.s3.head_object(Bucket=scene.bucket, Key=KEPT)["Metadata"] == METADATA
    expected = {"PutObjectTagging": TAGGED, "DeleteObjectTagging": []}
    assert scene.tags(KEPT) == expected.get(name, TAGS)
    assert scene.keys() == ({KEPT} if changed.get(name, BODY) is None else {KEPT, MEANT})
    assert scene.buckets() == before - ({f"{scene.bucket}-2"} if name == "DeleteBucket" else set())


def test_the_list_of_what_is_not_implemented_is_that_of_the_documentation() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/s3.md").read_text()
    section = text.partition("## Answered 501")[2].partition("\n## ")[0]
    assert {name for name in OPERATIONS if f"`{name}`" in section} == NOT_IMPLEMENTED


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
@pytest.mark.parametrize("query", ["somethingNew", "somethingNew=1", "tagging&somethingNew", "retention", "torrent"])
def test_a_query_key_that_nobody_knows_is_no_plain_request(
    world: World, new_name: Callable[[], str], method: str, query: str
) -> None:
    """A sub-resource of tomorrow, or one that is not implemented, must not be taken for the object or bucket itself."""
    scene = Scene(world, new_name())
    verbs = {"GET": "get_object", "PUT": "put_object", "DELETE": "delete_object", "HEAD": "head_object"}
    for key in (KEPT, None):
        signed = signed_url(scene, verbs.get(method, "get_object"), method, key, query)
        request = urllib.request.Request(signed, method=method, data=b"<x/>" if method in ("PUT", "POST") else None)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code in (405, 501)
    assert scene.content(KEPT) == BODY
    assert scene.tags(KEPT) == TAGS


def signed_url(scene: Scene, operation: str, method: str, key: str | None, query: str) -> str:
    """Sign a URL as it stands."""
    credentials = scene.s3._request_signer._credentials
    place = f"{scene.s3.meta.endpoint_url}/{scene.bucket}" + (f"/{key}" if key else "")
    request = AWSRequest(method=method, url=f"{place}?{query}")
    S3SigV4QueryAuth(credentials, "s3", "us-east-1", 60).add_auth(request)
    return str(request.prepare().url)


def test_documents_of_a_bucket_come_back_as_they_were_put_and_go_alone(
    world: World, new_name: Callable[[], str]
) -> None:
    scene = Scene(world, new_name())
    s3, where = scene.s3, {"Bucket": scene.bucket}
    block = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "p"}, "Expiration": {"Days": 3}}
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    cors = [{"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 3}]
    policy = '{"Version": "2012-10-17",  "Statement": []}'
    website = {"IndexDocument": {"Suffix": "i.html"}}
    owners = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    rows: list[tuple[str, str, Any, str]] = [
        ("public_access_block", "PublicAccessBlockConfiguration", block, "PublicAccessBlockConfiguration"),
        ("bucket_encryption", "ServerSideEncryptionConfiguration", encryption, "ServerSideEncryptionConfiguration"),
        ("bucket_tagging", "Tagging", {"TagSet": TAGGED}, "TagSet"),
        ("bucket_policy", "Policy", policy, "Policy"),
        ("bucket_lifecycle", "LifecycleConfiguration", {"Rules": [rule]}, "Rules"),
        ("bucket_cors", "CORSConfiguration", {"CORSRules": cors}, "CORSRules"),
        ("bucket_website", "WebsiteConfiguration", website, "IndexDocument"),
        ("bucket_ownership_controls", "OwnershipControls", owners, "OwnershipControls"),
    ]
    for name, member, value, shown in rows:
        long = f"{name}_configuration" if name == "bucket_lifecycle" else name
        getattr(s3, f"put_{long}")(**where, **{member: value})
        answer = getattr(s3, f"get_{long}")(**where)[shown]
        assert answer == (value[shown] if shown != member and isinstance(value, dict) else value), name
    for name, *_ in rows:
        getattr(s3, f"delete_{name}")(**where)
        with pytest.raises(ClientError) as caught:
            getattr(s3, f"get_{name}_configuration" if name == "bucket_lifecycle" else f"get_{name}")(**where)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
        assert scene.content(KEPT) == BODY
    logging = {"LoggingEnabled": {"TargetBucket": "x", "TargetPrefix": "p"}}
    assert s3.get_bucket_logging(**where).get("LoggingEnabled") is None
    s3.put_bucket_logging(**where, BucketLoggingStatus=logging)
    assert s3.get_bucket_logging(**where)["LoggingEnabled"] == logging["LoggingEnabled"]
    metrics = {"Id": "all", "Filter": {"Prefix": "p"}}
    s3.put_bucket_metrics_configuration(**where, Id="all", MetricsConfiguration=metrics)
    assert s3.list_bucket_metrics_configurations(**where)["MetricsConfigurationList"] == [metrics]
    s3.put_bucket_acl(**where, ACL="public-read")
    assert len(s3.get_bucket_acl(**where)["Grants"]) == 2
