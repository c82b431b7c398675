"""Stacks of a control plane in process: an S3 that is a table, and builds that end as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from botocore.exceptions import ClientError

from emberbox.edges.aws.stacks.registry import stack_kinds
from emberbox.model.caller import Caller
from emberbox.spec.models import CLOUDFORMATION
from support.around import Around
from support.control_plane import ControlPlane


class TableS3:
    """boto3's client of an S3, as far as stacks use it.

    Attributes:
        buckets: documents by the method that put them, by bucket.
        objects: texts by bucket and key.
        callers: who asked.
    """

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Any]] = {}
        self.objects: dict[tuple[str, str], bytes] = {}
        self.callers: list[Caller] = []

    def connect(self, caller: Caller) -> Any:
        """Return a client for a caller."""
        self.callers.append(caller)
        return self

    def __getattr__(self, method: str) -> Any:
        def call(Bucket: str, **parameters: Any) -> Any:  # noqa: N803 - boto3's spelling
            if Bucket not in self.buckets:
                raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": "it is not there"}}, method)
            if method.startswith("put_"):
                self.buckets[Bucket][method] = next(iter(parameters.values()))
            elif method.startswith("delete_bucket_"):
                self.buckets[Bucket].pop(method.replace("delete_", "put_"), None)
            return {}

        return call

    def create_bucket(self, Bucket: str, **_: Any) -> Any:  # noqa: N803 - boto3's spelling
        self.buckets.setdefault(Bucket, {})

    def delete_bucket(self, Bucket: str) -> Any:  # noqa: N803 - boto3's spelling
        if self.buckets.pop(Bucket, None) is None:
            raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": "it is not there"}}, "DeleteBucket")

    def get_object(self, Bucket: str, Key: str, **_: Any) -> Any:  # noqa: N803 - boto3's spelling
        if (Bucket, Key) not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "it is not there"}}, "GetObject")
        body = self.objects[Bucket, Key]

        class Body:
            def read(self) -> bytes:
                return body

        return {"Body": Body()}


@contextlib.asynccontextmanager
async def working(plane: ControlPlane, s3: TableS3) -> AsyncIterator[None]:
    """Work on a plane's stacks."""
    kinds = stack_kinds(plane.handlers(), plane.access, plane.region, s3.connect)
    async with plane.control.stacks.work(kinds):
        yield


async def ended(client: Around, name: str, timeout_s: float = 30) -> dict[str, Any]:
    """Wait until nothing is under way with a stack; return it."""
    async with asyncio.timeout(timeout_s):
        while True:
            stack: dict[str, Any] = (await client.ok(CLOUDFORMATION, "DescribeStacks", StackName=name))["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return stack
            await asyncio.sleep(0.02)


async def events_of(client: Around, name: str) -> list[tuple[str, str]]:
    """Return logical ids and statuses of a stack's events, oldest first."""
    found = (await client.ok(CLOUDFORMATION, "DescribeStackEvents", StackName=name))["StackEvents"]
    return [(event["LogicalResourceId"], event["ResourceStatus"]) for event in reversed(found)]


async def reasons_of(client: Around, name: str) -> str:
    """Return why what failed has failed."""
    found = (await client.ok(CLOUDFORMATION, "DescribeStackEvents", StackName=name))["StackEvents"]
    return "\n".join(event.get("ResourceStatusReason") or "" for event in found)
