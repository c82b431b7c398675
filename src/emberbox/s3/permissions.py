"""What an operation needs of its caller's policies ("Actions, resources, and condition keys for Amazon S3")."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from emberbox.model.iam.access import Credential
from emberbox.model.iam.global_keys import RESOURCE_ACCOUNT
from emberbox.model.iam.policies import Decision, decide
from emberbox.s3.errors import S3Error

_ACTIONS: Final[Mapping[str, str]] = {  # of the others the action is called like the operation
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "DeleteBucketInventoryConfiguration": "PutInventoryConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketMetricsConfiguration": "PutMetricsConfiguration",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteObjects": "DeleteObject",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketAnalyticsConfiguration": "GetAnalyticsConfiguration",
    "GetBucketCors": "GetBucketCORS",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketIntelligentTieringConfiguration": "GetIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration": "GetInventoryConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketMetricsConfiguration": "GetMetricsConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetObjectAttributes": "GetObject",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListBucketAnalyticsConfigurations": "GetAnalyticsConfiguration",
    "ListBucketIntelligentTieringConfigurations": "GetIntelligentTieringConfiguration",
    "ListBucketInventoryConfigurations": "GetInventoryConfiguration",
    "ListBucketMetricsConfigurations": "GetMetricsConfiguration",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjectVersions": "ListBucketVersions",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListParts": "ListMultipartUploadParts",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "PutBucketAnalyticsConfiguration": "PutAnalyticsConfiguration",
    "PutBucketCors": "PutBucketCORS",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketIntelligentTieringConfiguration": "PutIntelligentTieringConfiguration",
    "PutBucketInventoryConfiguration": "PutInventoryConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketMetricsConfiguration": "PutMetricsConfiguration",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "PutBucketReplication": "PutReplicationConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
}
_OF_VERSIONS: Final[Mapping[str, str]] = {  # what the action is when the request names a version
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
}
_ALONGSIDE: Final = (  # what a header asks for besides
    ("Tagging", "PutObjectTagging"),
    ("ACL", "PutObjectAcl"),
)
_FACTS: Final = {
    "s3:prefix": "Prefix",
    "s3:delimiter": "Delimiter",
    "s3:max-keys": "MaxKeys",
    "s3:versionid": "VersionId",
    "s3:x-amz-acl": "ACL",
    "s3:x-amz-copy-source": "CopySource",
    "s3:x-amz-storage-class": "StorageClass",
    "s3:x-amz-server-side-encryption": "ServerSideEncryption",
}
_EXISTING_TAG: Final = "s3:existingobjecttag/"
_OWNER: Final = (RESOURCE_ACCOUNT, "s3:resourceaccount")


def bucket_arn(bucket: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{bucket}"


def object_arn(bucket: str, key: bytes) -> str:
    """Return the ARN of an object."""
    return f"arn:aws:s3:::{bucket}/{key.decode('utf-8', 'replace')}"


def needed_actions(operation: str, parameters: Mapping[str, Any]) -> list[str]:
    """Return the actions that a request needs on its bucket or object."""
    action = _ACTIONS.get(operation, operation)
    if "VersionId" in parameters:
        action = _OF_VERSIONS.get(action, action)
    actions = [action]
    if action == "PutObject" and operation not in ("UploadPart", "UploadPartCopy", "CompleteMultipartUpload"):
        actions += [more for name, more in _ALONGSIDE if name in parameters]
    return [f"s3:{name}" for name in actions]


class Facts:
    """The condition keys of one request; the tags of its object are looked up when a policy asks for them.

    Args:
        caller: what is known of who signed.
        parameters: of the request.
        existing_tags: returns the tags that the object has.
        owner: returns the account whose bucket it is, or would be.
    """

    def __init__(
        self,
        caller: Mapping[str, tuple[str, ...]],
        parameters: Mapping[str, Any],
        existing_tags: Callable[[], Sequence[tuple[str, str]]],
        owner: Callable[[], str],
    ) -> None:
        self._known = dict(caller)
        for fact, name in _FACTS.items():
            if name in parameters:
                self._known[fact] = (str(parameters[name]),)
        self._existing_tags = existing_tags
        self._owner = owner

    def get(self, key: str, /) -> Sequence[str] | None:
        """Return the values of a condition key."""
        if key.startswith(_EXISTING_TAG):
            wanted = key.removeprefix(_EXISTING_TAG)
            found = tuple(value for name, value in self._existing_tags() if name.lower() == wanted)
            return found or None
        if key in _OWNER:
            return (self._owner(),)
        return self._known.get(key)


def may(credential: Credential, action: str, resource: str, facts: Facts) -> bool:
    """Say whether a caller's policies allow an action."""
    return decide(credential.policies, action, resource, facts) is Decision.ALLOW


def check(credential: Credential, action: str, resource: str, facts: Facts) -> None:
    """Refuse what a caller's policies do not allow.

    Raises:
        S3Error: AccessDenied, with IAM's sentence.
    """
    decision = decide(credential.policies, action, resource, facts)
    if decision is Decision.ALLOW:
        return
    reason = f"because no identity-based policy allows the {action} action"
    if decision is Decision.EXPLICIT_DENY:
        reason = "with an explicit deny in an identity-based policy"
    raise S3Error(
        "AccessDenied",
        f"User: {credential.principal_arn} is not authorized to perform: {action} on resource: {resource} {reason}",
    )
