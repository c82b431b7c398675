"""AWS::S3::Bucket and AWS::S3::BucketPolicy: buckets with their documents, in the S3 that the server knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from emberbox.background import in_thread
from emberbox.control.access.authorisation import AccessRequest, Permission
from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.stacks.calls import Calls
from emberbox.edges.aws.stacks.kind import Terms, chosen_name, is_ours, merged_tags
from emberbox.edges.aws.stacks.roles import as_document
from emberbox.model.caller import Caller
from emberbox.model.errors import ServiceError
from emberbox.model.stacks.template import Values

ConnectS3 = Callable[[Caller], Any]
"""Returns boto3's client of S3 for a caller. Any: boto3 makes its classes at run time."""

_SAME: Final = {
    "VersioningConfiguration": ("put_bucket_versioning", "VersioningConfiguration", "PutBucketVersioning"),
    "PublicAccessBlockConfiguration": (
        "put_public_access_block",
        "PublicAccessBlockConfiguration",
        "PutBucketPublicAccessBlock",
    ),
    "OwnershipControls": ("put_bucket_ownership_controls", "OwnershipControls", "PutBucketOwnershipControls"),
}
"""Properties that S3's operations take as they are: method, parameter and action."""


class BucketError(ServiceError):
    """S3 has refused something.

    Args:
        message: S3's own.
        code: S3's own.
    """

    code = "GeneralServiceException"  # what CloudFormation calls refusals of other services

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.s3_code = code


class Buckets:
    """Asks S3, after policies have been asked: another S3 than the embedded one knows no policies of ours.

    Args:
        calls: authorises.
        connect: see there.
    """

    def __init__(self, calls: Calls, connect: ConnectS3) -> None:
        self._calls = calls
        self._connect = connect

    async def ask(self, caller: Caller, method: str, action: str, arn: str, **parameters: Any) -> Any:
        """Call a method of boto3's client. Any: parameters and results are boto3's.

        Raises:
            AccessDeniedError: the caller may not.
            BucketError: S3 refuses it, or does not answer.
        """
        self._calls.authorise(caller, AccessRequest((Permission(f"s3:{action}", arn),)))

        def call() -> Any:
            client = self._connect(caller)
            result = getattr(client, method)(**parameters)
            return result["Body"].read() if method == "get_object" else result

        try:
            return await in_thread(call)
        except ClientError as error:
            detail = error.response.get("Error", {})
            raise BucketError(str(detail.get("Message") or error), str(detail.get("Code", ""))) from error
        except BotoCoreError as error:
            raise BucketError(f"S3 does not answer: {error}", "ServiceUnavailable") from error


class BucketKind:
    """Makes buckets.

    Args:
        buckets: asks S3.
        region: the region played, for names.
    """

    terms = Terms(
        taken=frozenset({"BucketName", "AccessControl", "BucketEncryption", "LifecycleConfiguration", "Tags", *_SAME}),
        fixed=frozenset({"BucketName"}),
        name="BucketName",
        name_max=63,
    )

    def __init__(self, buckets: Buckets, region: str) -> None:
        self._buckets = buckets
        self._region = region

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a bucket; one that is there already, also of the same account, is not taken over."""
        name = chosen_name(self.terms, job)
        name = name if job.properties.get("BucketName") else name.lower()
        if not is_ours(self.terms, job) and await self._is_there(job.caller, name):
            raise BucketError(f"{name} already exists", "BucketAlreadyOwnedByYou")
        asked: dict[str, Any] = {}
        if self._region != "us-east-1":
            asked["CreateBucketConfiguration"] = {"LocationConstraint": self._region}
        try:
            await self._ask(job.caller, "create_bucket", "CreateBucket", name, **asked)
        except BucketError as error:
            if error.s3_code != "BucketAlreadyOwnedByYou" or not is_ours(self.terms, job):
                raise
        await tell(name)
        return await self.update(job, name, {})

    async def _is_there(self, caller: Caller, name: str) -> bool:
        try:
            await self._ask(caller, "head_bucket", "ListBucket", name)
        except BucketError:
            return False
        return True

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Put a bucket's documents, and remove those that are not wanted any more."""
        given, caller = job.properties, job.caller
        if given.get("AccessControl", "Private") != "Private":
            raise BucketError("AccessControl is Private here: ACLs let nobody in (docs/s3.md)", "InvalidArgument")
        for name, (method, parameter, action) in _SAME.items():
            if name in given:
                await self._ask(caller, method, action, physical_id, **{parameter: _booleans(given[name])})
            elif name in before and name != "VersioningConfiguration":
                await self._ask(caller, method.replace("put_", "delete_"), action, physical_id)
        if "VersioningConfiguration" in before and "VersioningConfiguration" not in given:
            off = {"VersioningConfiguration": {"Status": "Suspended"}}
            await self._ask(caller, "put_bucket_versioning", "PutBucketVersioning", physical_id, **off)
        await self._put_encryption(caller, physical_id, given.get("BucketEncryption"), before)
        await self._put_lifecycle(caller, physical_id, given.get("LifecycleConfiguration"), before)
        await self._put_tags(job, physical_id)
        host = f"{physical_id}.s3"
        return Made(
            physical_id,
            {
                "Arn": f"arn:aws:s3:::{physical_id}",
                "DomainName": f"{host}.amazonaws.com",
                "RegionalDomainName": f"{host}.{self._region}.amazonaws.com",
            },
        )

    async def _put_encryption(self, caller: Caller, name: str, given: Values | None, before: Values) -> None:
        action = "PutEncryptionConfiguration"
        if given is None:
            if "BucketEncryption" in before:
                await self._ask(caller, "delete_bucket_encryption", action, name)
            return
        rules = []
        for one in given.get("ServerSideEncryptionConfiguration", ()):
            rule = {"ApplyServerSideEncryptionByDefault": one.get("ServerSideEncryptionByDefault", {})}
            rules.append({**rule, **_booleans({key: one[key] for key in one if key == "BucketKeyEnabled"})})
        configuration = {"ServerSideEncryptionConfiguration": {"Rules": rules}}
        await self._ask(caller, "put_bucket_encryption", action, name, **configuration)

    async def _put_lifecycle(self, caller: Caller, name: str, given: Values | None, before: Values) -> None:
        action = "PutLifecycleConfiguration"
        if given is None:
            if "LifecycleConfiguration" in before:
                await self._ask(caller, "delete_bucket_lifecycle", action, name)
            return
        configuration = {"LifecycleConfiguration": {"Rules": [_lifecycle_rule(one) for one in given["Rules"]]}}
        await self._ask(caller, "put_bucket_lifecycle_configuration", action, name, **configuration)

    async def _put_tags(self, job: Job, name: str) -> None:
        action, tags = "PutBucketTagging", merged_tags(job)
        if tags:
            pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
            await self._ask(job.caller, "put_bucket_tagging", action, name, Tagging={"TagSet": pairs})
        else:
            await self._ask(job.caller, "delete_bucket_tagging", action, name)

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a bucket, which must be empty."""
        try:
            await self._ask(job.caller, "delete_bucket", "DeleteBucket", physical_id)
        except BucketError as error:
            if error.s3_code != "NoSuchBucket":
                raise

    async def _ask(self, caller: Caller, method: str, action: str, name: str, **parameters: Any) -> Any:
        arn = f"arn:aws:s3:::{name}"
        return await self._buckets.ask(caller, method, action, arn, Bucket=name, **parameters)


class BucketPolicyKind:
    """Puts policies to buckets, which are kept and decide nothing (docs/s3.md).

    Args:
        buckets: asks S3.
    """

    terms = Terms(
        taken=frozenset({"Bucket", "PolicyDocument"}),
        needed=frozenset({"Bucket", "PolicyDocument"}),
        fixed=frozenset({"Bucket"}),
    )

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def create(self, job: Job, tell: Tell) -> Made:
        """Put a policy."""
        bucket = str(job.properties["Bucket"])
        await tell(bucket)
        return await self.update(job, bucket, {})

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:  # noqa: ARG002 - the new one is all
        """Put a policy in place of the one that is there."""
        document = as_document(job.properties["PolicyDocument"])
        arn = f"arn:aws:s3:::{physical_id}"
        asked = {"Bucket": physical_id, "Policy": document}
        await self._buckets.ask(job.caller, "put_bucket_policy", "PutBucketPolicy", arn, **asked)
        return Made(physical_id, {})

    async def delete(self, job: Job, physical_id: str) -> None:
        """Remove a policy."""
        arn = f"arn:aws:s3:::{physical_id}"
        try:
            await self._buckets.ask(job.caller, "delete_bucket_policy", "DeleteBucketPolicy", arn, Bucket=physical_id)
        except BucketError as error:
            if error.s3_code != "NoSuchBucket":
                raise


_RULE: Final[Mapping[str, str]] = {
    "Id": "ID", "Status": "Status", "Prefix": "Prefix",
    "AbortIncompleteMultipartUpload": "AbortIncompleteMultipartUpload",
    "NoncurrentVersionExpiration": "NoncurrentVersionExpiration",
}  # fmt: skip
_PART: Final = {"NewerNoncurrentVersions", "NoncurrentDays", "DaysAfterInitiation"}


def _lifecycle_rule(given: Values) -> dict[str, Any]:
    """Return a rule in S3's words; it is kept and acted on by nobody, as all of a bucket's documents are."""
    rule: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("ExpirationInDays", "NoncurrentVersionExpirationInDays"):
            member = {"ExpirationInDays": "Expiration"}.get(name, "NoncurrentVersionExpiration")
            rule[member] = {"Days" if member == "Expiration" else "NoncurrentDays": int(value)}
        elif name in _RULE:
            is_part = isinstance(value, Mapping)
            rule[_RULE[name]] = {key: int(one) for key, one in value.items() if key in _PART} if is_part else value
        else:
            raise BucketError(f"the lifecycle rule's {name} is not offered by Emberbox", "InvalidArgument")
    return rule if "Prefix" in rule else {**rule, "Filter": {"Prefix": ""}}


def _booleans(given: Any) -> Any:
    """Return a document with truths where a template has texts for them. Any: as in templates."""
    if isinstance(given, Mapping):
        return {name: _booleans(value) for name, value in given.items()}
    return {"true": True, "false": False}.get(given, given) if isinstance(given, str) else given
