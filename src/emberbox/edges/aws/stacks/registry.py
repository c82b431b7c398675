"""All kinds of resources that stacks can have, by their types in templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.edges.aws.operations.handler import Handler
from emberbox.edges.aws.stacks.buckets import BucketKind, BucketPolicyKind, Buckets, ConnectS3
from emberbox.edges.aws.stacks.calls import CallGuard, Calls
from emberbox.edges.aws.stacks.connectors import ConnectorKind
from emberbox.edges.aws.stacks.images import ImageKind
from emberbox.edges.aws.stacks.kind import Kind, Terms
from emberbox.edges.aws.stacks.policies import ManagedPolicyKind, PolicyKind
from emberbox.edges.aws.stacks.retention import LogRetentionKind
from emberbox.edges.aws.stacks.roles import RoleKind
from emberbox.edges.aws.stacks.small import LogGroupKind, NothingKind, ParameterKind
from emberbox.model.caller import Caller
from emberbox.model.errors import ServiceError, ValidationError
from emberbox.model.stacks.cdk import LOG_RETENTION, LOG_RETENTION_PROVIDER
from emberbox.model.stacks.template import OBJECT_MAX, Values

_REPOSITORY: Final = Terms(
    taken=frozenset(
        {
            "RepositoryName",
            "ImageTagMutability",
            "LifecyclePolicy",
            "RepositoryPolicyText",
            "ImageScanningConfiguration",
        }
    ),
    fixed=frozenset({"RepositoryName"}),
    name="RepositoryName",
)
_NOTHING: Final = Terms(taken=frozenset())
_FUNCTION: Final = Terms(taken=frozenset({"Handler", "Runtime", "Timeout", "Code", "Role", "Tags"}))


def make_kinds(calls: Calls, buckets: Buckets, region: str) -> Mapping[str, Kind]:
    """Return the kinds by their types.

    Args:
        calls: calls operations.
        buckets: asks S3.
        region: the region played.
    """
    repository = {
        "Arn": "arn:aws:ecr:{region}:{account}:repository/{name}",
        "RepositoryUri": "{account}.dkr.ecr.{region}.amazonaws.com/{name}",
    }
    return {
        "AWS::Lambda::MicrovmImage": ImageKind(calls),
        "AWS::Lambda::NetworkConnector": ConnectorKind(calls),
        "AWS::IAM::Role": RoleKind(calls),
        "AWS::IAM::Policy": PolicyKind(calls),
        "AWS::IAM::ManagedPolicy": ManagedPolicyKind(calls),
        "AWS::S3::Bucket": BucketKind(buckets, region),
        "AWS::S3::BucketPolicy": BucketPolicyKind(buckets),
        "AWS::Logs::LogGroup": LogGroupKind(calls, region),
        "AWS::SSM::Parameter": ParameterKind(calls),
        "AWS::ECR::Repository": NothingKind(_REPOSITORY, repository),
        "AWS::CDK::Metadata": NothingKind(Terms(taken=frozenset({"Analytics"}))),
        "AWS::CloudFormation::WaitConditionHandle": NothingKind(_NOTHING),
        LOG_RETENTION: LogRetentionKind(calls, region),
        LOG_RETENTION_PROVIDER: NothingKind(_FUNCTION, {"Arn": "arn:aws:lambda:{region}:{account}:function:{name}"}),
    }


def stack_kinds(
    handlers: Mapping[str, Mapping[str, Handler]], guard: CallGuard, region: str, connect: ConnectS3
) -> KnownKinds:
    """Return all kinds.

    Args:
        handlers: of all services, by the names of their operations.
        guard: says who may do what.
        region: the region played.
        connect: returns clients of S3.
    """
    calls = Calls(handlers, guard, region)
    buckets = Buckets(calls, connect)
    return KnownKinds(make_kinds(calls, buckets, region), buckets)


class KnownKinds:
    """Sends each resource to its kind, after its properties have been looked at.

    Args:
        kinds: by their types.
        buckets: reads templates that are in S3.
    """

    def __init__(self, kinds: Mapping[str, Kind], buckets: Buckets) -> None:
        self._kinds = kinds
        self._buckets = buckets

    def check(self, kind: str, properties: Values) -> None:
        """Look at the names of properties."""
        terms = self._find(kind).terms
        if unknown := sorted(properties.keys() - terms.taken):
            raise ValidationError(
                f"{', '.join(unknown)} of {kind} is not offered by Emberbox; docs/cloudformation.md lists what is."
            )
        if missing := sorted(terms.needed - properties.keys()):
            raise ValidationError(f"required key [{missing[0]}] of {kind} not found")

    def names_itself(self, kind: str, properties: Values) -> bool:
        """Say whether the template chooses a name."""
        return kind in self._kinds and bool(properties.get(self._kinds[kind].terms.name))

    def has_tags(self, kind: str) -> bool:
        """Say whether it has tags of its own, which the stack's are put beside."""
        return "Tags" in self._find(kind).terms.taken

    def is_replaced(self, kind: str, before: Values, after: Values) -> bool:
        """Say whether a fixed property differs."""
        terms = self._find(kind).terms
        if all(before.get(name) == after.get(name) for name in terms.fixed):
            return False
        if after.get(terms.name) and before.get(terms.name) == after.get(terms.name):
            raise ValidationError(
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {after[terms.name]} and update the stack again."
            )
        return True

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make a resource."""
        self.check(job.type, job.properties)
        return await self._find(job.type).create(job, tell)

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Change a resource."""
        self.check(job.type, job.properties)
        return await self._find(job.type).update(job, physical_id, before)

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete a resource."""
        await self._find(job.type).delete(job, physical_id)

    async def read_object(self, caller: Caller, url: str) -> str:
        """Return the text of a template in S3. Nothing but this server's S3 is ever asked, whatever the URL says."""
        bucket, key = split_url(url)
        arn = f"arn:aws:s3:::{bucket}/{key}"
        try:
            body = await self._buckets.ask(
                caller, "get_object", "GetObject", arn, Bucket=bucket, Key=key, Range=f"bytes=0-{OBJECT_MAX}"
            )
            return bytes(body).decode()
        except ServiceError as error:
            raise ValidationError(f"S3 error: {error.message} ({url})") from error
        except UnicodeDecodeError as error:
            raise ValidationError(f"Template format error: {url} is not UTF-8") from error

    def _find(self, kind: str) -> Kind:
        found = self._kinds.get(kind)
        if found is None:
            raise ValidationError(
                f"Resource type {kind} is not offered by Emberbox; docs/cloudformation.md lists those that are."
            )
        return found


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and key of an object's URL, in the path or with the bucket in the name of the host.

    Raises:
        ValidationError: it names none.
    """
    parts = urlsplit(url)
    host, path = parts.hostname or "", unquote(parts.path).lstrip("/")
    before, found, _ = host.partition(".s3")
    if found and before:
        bucket, key = before, path
    else:
        bucket, _, key = path.partition("/")
    if parts.scheme not in ("http", "https") or not bucket or not key:
        raise ValidationError(f"TemplateURL must reference a valid S3 object to which you have access: {url}")
    return bucket, key
