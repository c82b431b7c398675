"""The embedded S3, with a real rclone and boto3."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from emberbox.host.s3_server import S3Settings, start_s3_server
from emberbox.images.artifact import fetch
from emberbox.model.errors import BuildError, HostError

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    settings: S3Settings
    endpoint_url: str

    @property
    def pid(self) -> int:
        pid: int = json.loads((self.settings.state_directory / "s3.pid").read_text())["pid"]
        return pid

    def client(self, secret: str | None = None, **config: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.settings.access_key_id,
            aws_secret_access_key=secret or self.settings.secret_access_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    root = tmp_path_factory.mktemp("s3")
    settings = S3Settings(root / "objects", root / "state", "AKIDTEST", 'se"cret+/with ' + secrets.token_hex(8))
    async with start_s3_server(settings) as server:
        yield World(settings, server.endpoint_url)


async def test_what_is_put_is_there_at_once_also_as_a_file(world: World) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="one")
    for i in range(5):
        body = b"content" * 1000 + str(i).encode()
        s3.put_object(Bucket="one", Key="deep/key.zip", Body=body)
        assert (world.settings.directory / "one/deep/key.zip").read_bytes() == body
        assert s3.get_object(Bucket="one", Key="deep/key.zip")["Body"].read() == body
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="one")["Contents"]] == ["deep/key.zip"]
    s3.delete_object(Bucket="one", Key="deep/key.zip")
    assert "Contents" not in s3.list_objects_v2(Bucket="one")
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["one"]


async def test_a_large_upload_in_parts_arrives_whole(world: World, tmp_path: Path) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="large")
    content = os.urandom(12 << 20)
    (tmp_path / "f").write_bytes(content)
    s3.upload_file(str(tmp_path / "f"), "large", "f")
    assert (world.settings.directory / "large/f").read_bytes() == content


async def test_a_file_put_into_the_directory_is_an_object_at_once(world: World) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="files")
    assert "Contents" not in s3.list_objects_v2(Bucket="files")
    (world.settings.directory / "files/x").write_bytes(b"x")
    assert s3.get_object(Bucket="files", Key="x")["Body"].read() == b"x"


async def test_whoever_does_not_know_the_secret_is_refused(world: World) -> None:
    for client, status in ((world.client("wrong"), 403), (world.client(signature_version=UNSIGNED), 400)):
        with pytest.raises(ClientError) as caught:
            client.list_buckets()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize("access_key_id", ["", "abc", "a,bcde", 'a"bcde', "a b c d"])
async def test_an_unusable_access_key_id_is_refused_at_once(tmp_path: Path, access_key_id: str) -> None:
    with pytest.raises(HostError, match="letters and digits"):
        async with start_s3_server(S3Settings(tmp_path / "o", tmp_path / "s", access_key_id, "secret")):
            pytest.fail("it cannot serve")


async def test_keys_cannot_lead_out_of_the_directory(world: World) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="cage")
    outside = world.settings.directory.parent / "outside"
    outside.write_text("secret")
    for key in ("../../outside", "../outside", "a/../../../outside"):
        with pytest.raises(ClientError):
            s3.get_object(Bucket="cage", Key=key)
        try:
            s3.put_object(Bucket="cage", Key=key, Body=b"evil")
        except ClientError:
            continue
    assert outside.read_text() == "secret"


async def test_the_secret_is_not_in_the_process_list_nor_the_log_nor_the_repr(world: World) -> None:
    secret = world.settings.secret_access_key
    assert secret not in Path(f"/proc/{world.pid}/cmdline").read_text()
    assert secret not in (world.settings.state_directory / "s3.log").read_text()
    assert secret not in repr(world.settings)


async def test_the_users_own_rclone_is_not_touched(world: World) -> None:
    pairs = Path(f"/proc/{world.pid}/environ").read_text().split("\0")
    assert sorted(pair.partition("=")[0] for pair in pairs if pair) == [
        "HOME",
        "PATH",
        "RCLONE_AUTH_KEY",
        "RCLONE_CACHE_DIR",
        "RCLONE_CONFIG",
    ]


async def test_objects_and_service_survive_the_servers_death(world: World) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="k", Body=b"kept")
    first = world.pid
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            try:
                if world.pid != first and s3.get_object(Bucket="kept", Key="k")["Body"].read() == b"kept":
                    break
            except Exception:  # noqa: S110  # it is just starting again
                pass
            await asyncio.sleep(0.02)


async def test_an_artifact_is_fetched_and_its_absence_has_a_reason(world: World, tmp_path: Path) -> None:
    s3 = world.client()
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="app/v 1.zip", Body=b"PK...")
    await fetch(s3, "s3://code/app/v 1.zip", tmp_path / "a.zip", 1000)
    assert (tmp_path / "a.zip").read_bytes() == b"PK..."
    for client, uri, reason in (
        (s3, "s3://code/missing", "S3_NO_SUCH_KEY"),
        (s3, "s3://missing/key", "S3_NO_SUCH_BUCKET"),
        (world.client("wrong"), "s3://code/app/v 1.zip", "S3_ACCESS_DENIED"),
    ):
        with pytest.raises(BuildError) as caught:
            await fetch(client, uri, tmp_path / "b.zip", 1000)
        assert caught.value.reason == reason
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


async def test_the_port_is_free_again_after_the_block(tmp_path: Path) -> None:
    settings = S3Settings(tmp_path / "o", tmp_path / "s", "AKIDTEST", "secret")
    async with start_s3_server(settings) as server:
        port = int(server.endpoint_url.rpartition(":")[2])
    again = S3Settings(tmp_path / "o", tmp_path / "s", "AKIDTEST", "secret", port)
    async with start_s3_server(again) as server:
        assert server.endpoint_url.endswith(f":{port}")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
