"""The S3 that artifacts come from: the embedded one, or the operator's."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import Any, Final

import boto3
from botocore.config import Config

from emberbox.app.home import database_url
from emberbox.control.access.artifact_reader import reader_credential
from emberbox.edges.aws.stacks.buckets import ConnectS3
from emberbox.host.s3_server import S3Settings, start_s3_server
from emberbox.model.caller import Caller
from emberbox.settings import Settings

_CONFIG: Final = Config(s3={"addressing_style": "path"}, retries={"mode": "standard"})


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """Where artifacts are.

    Args:
        url: what clients are given.
        client: boto3's client for it. Any: boto3 makes its classes at run time.
        is_embedded: whether it is ours, and knows accounts.
    """

    url: str
    client: Any
    is_embedded: bool


async def start_object_storage(settings: Settings, running: contextlib.AsyncExitStack) -> ObjectStorage:
    """Start the embedded S3, unless the operator has named another.

    Raises:
        HostError: it does not serve.
    """
    if settings.s3_endpoint_url:
        url = settings.s3_endpoint_url
        client = boto3.client("s3", endpoint_url=url, region_name=settings.region, config=_CONFIG)
        return ObjectStorage(url, client, is_embedded=False)
    reader = reader_credential(settings.home, settings.account_id)
    chosen = S3Settings(
        home=settings.home,
        state_directory=settings.home / "runtime" / "s3",
        database_url=database_url(settings, "emberbox.db"),
        account_id=settings.account_id,
        region=settings.region,
        domain=settings.domain,
        probe=reader,
        port=settings.s3_port,
    )
    server = await running.enter_async_context(start_s3_server(chosen))
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=reader.access_key_id,
        aws_secret_access_key=reader.secret_access_key,
        config=_CONFIG,
    )
    return ObjectStorage(server.endpoint_url, client, is_embedded=True)


def connect_as(objects: ObjectStorage, region: str) -> ConnectS3:
    """Return what makes clients of S3 for callers: of the operator's S3, which knows no accounts, the server's own."""
    session, lock = boto3.Session(), threading.Lock()  # which reads S3's large model once
    last: dict[str, Any] = {}

    def connect(caller: Caller) -> Any:
        credential = caller.credential
        if not objects.is_embedded or credential is None:
            return objects.client
        with lock:
            if credential.access_key_id not in last:
                last.clear()  # a step of a stack has credentials of its own, and asks several times
                last[credential.access_key_id] = session.client(
                    "s3",
                    endpoint_url=objects.url,
                    region_name=region,
                    aws_access_key_id=credential.access_key_id,
                    aws_secret_access_key=credential.secret_access_key,
                    aws_session_token=credential.session_token,
                    config=_CONFIG,
                )
            return last[credential.access_key_id]

    return connect
