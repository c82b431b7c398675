"""Deaths at any moment, homes of an earlier release, and requests at random: nothing is lost, nothing is half there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emberbox.host import s3_server
from support.s3 import REGION, Home, World, serve_s3


def content_files(home: Path) -> list[Path]:
    return [path for path in (home / "objects" / "files").rglob("*") if path.is_file()]


async def test_a_death_in_the_midst_of_writes_leaves_old_content_or_new(tmp_path: Path) -> None:
    async with serve_s3(tmp_path / "home") as world:
        s3 = world.client()
        await asyncio.to_thread(s3.create_bucket, Bucket="kept")
        answered: dict[str, set[str]] = {f"k{number}": set() for number in range(4)}
        begun: dict[str, set[str]] = {key: set() for key in answered}
        stopping = threading.Event()

        def write(key: str) -> None:
            client, turn = world.client(), 0
            while not stopping.is_set():
                body = f"{key} {turn} ".encode() * random.Random(turn).randint(1, 400_000)
                digest = hashlib.sha256(body).hexdigest()
                turn += 1
                begun[key].add(digest)
                with contextlib.suppress(BotoCoreError, ClientError):
                    client.put_object(Bucket="kept", Key=key, Body=body)
                    begun[key] = {digest}
                    answered[key] = {digest}

        writers = [threading.Thread(target=write, args=(key,)) for key in answered]
        for writer in writers:
            writer.start()
        try:
            for _ in range(3):
                await asyncio.sleep(random.uniform(0.3, 1.0))
                await kill(world)
        finally:
            stopping.set()
            await asyncio.gather(*(asyncio.to_thread(writer.join) for writer in writers))

        def check() -> None:
            for key, digests in begun.items():
                body = s3.get_object(Bucket="kept", Key=key)["Body"].read()
                assert hashlib.sha256(body).hexdigest() in digests

        await asyncio.to_thread(check)
        assert all(answered.values())
        await kill(world)
        assert len(content_files(world.home.path)) == len(answered)  # what never ended is swept at the start


async def kill(world: World) -> None:
    """Kill the process, and wait for the one that follows it."""
    first = world.pid
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError, BotoCoreError, ClientError, KeyError, ValueError):
                if world.pid != first:
                    await asyncio.to_thread(world.client().list_buckets)
                    return
            await asyncio.sleep(0.02)


async def test_the_next_server_takes_over_what_goes_on(tmp_path: Path) -> None:
    home = Home.make(tmp_path / "home")
    async with contextlib.AsyncExitStack() as first:
        server = await first.enter_async_context(s3_server.start_s3_server(home.settings()))
        world = World(home, server.endpoint_url)
        s3 = world.client()
        await asyncio.to_thread(s3.create_bucket, Bucket="kept")
        content = os.urandom(32 << 20)
        await asyncio.to_thread(s3.put_object, Bucket="kept", Key="k", Body=content)
        body = (await asyncio.to_thread(s3.get_object, Bucket="kept", Key="k"))["Body"]
        begun = await asyncio.to_thread(body.read, 1 << 20)
        pid = world.pid
        async with s3_server.start_s3_server(home.settings()) as again:
            assert again.endpoint_url == server.endpoint_url
            assert world.pid == pid
            assert begun + await asyncio.to_thread(body.read) == content
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", world.port)


async def test_what_an_earlier_release_kept_is_taken_over(tmp_path: Path) -> None:
    old = tmp_path / "home" / "s3"
    kept = {"code/app.zip": b"PK" * 1000, "code/deep/ü b.txt": b"text", "code/deep/er/x": b"", "objects/files/a": b"a"}
    for name, content in kept.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(content)
        os.utime(old / name, (1_700_000_000, 1_700_000_000))
    (old / "empty").mkdir()
    (old / "code" / "link").symlink_to("/etc/passwd")
    (old / "code" / os.fsdecode(b"\xff")).write_bytes(b"no text")
    async with serve_s3(tmp_path / "home") as world:

        def check(client: Any) -> None:
            assert [one["Name"] for one in client.list_buckets()["Buckets"]] == ["code", "empty", "objects"]
            for name, content in kept.items():
                bucket, _, key = name.partition("/")
                answer = client.get_object(Bucket=bucket, Key=key)
                assert answer["Body"].read() == content
                assert answer["LastModified"].timestamp() == 1_700_000_000
            listed = client.list_objects_v2(Bucket="code")["Contents"]
            assert sorted(one["Key"] for one in listed) == ["app.zip", "deep/er/x", "deep/ü b.txt"]
            assert client.get_object(Bucket="code", Key="deep/ü b.txt")["ContentType"] == "text/plain"

        await asyncio.to_thread(check, world.client())
        left = {path.relative_to(old) for path in old.rglob("*")}
        assert left == {Path("code"), Path("code/link"), Path("code") / os.fsdecode(b"\xff")}
        # One whose takeover was cut short after its row was stored, and one that would replace an object.
        [row] = [path for path in content_files(world.home.path) if path.read_bytes() == b"PK" * 1000]
        (old / "code" / "app.zip").hardlink_to(row)
        (old / "code" / "deep").mkdir()
        (old / "code" / "deep" / "ü b.txt").write_bytes(b"another")
        await kill(world)
        await asyncio.to_thread(check, world.client())
        assert not (old / "code" / "app.zip").exists()
        assert (old / "code" / "deep" / "ü b.txt").read_bytes() == b"another"


async def test_secrets_are_neither_in_the_command_line_nor_in_the_log(tmp_path: Path) -> None:
    async with serve_s3(tmp_path / "home") as world:
        place = Path(f"/proc/{world.pid}")
        shown = (place / "cmdline").read_text() + (place / "environ").read_text()
        shown += (world.home.path / "runtime" / "s3" / "s3.log").read_text() + repr(world.home.settings())
        assert world.home.operator.secret_access_key not in shown
        assert world.home.settings().probe.secret_access_key not in shown
        names = {pair.partition("=")[0] for pair in (place / "environ").read_text().split("\0") if pair}
        assert names - {"PATH", "HOME", "LC_ALL", "LC_CTYPE", "MALLOC_ARENA_MAX", "EMBERBOX_TIME_SCALE"} == {
            f"EMBERBOX_S3_{name}" for name in ("ADDRESS", "PORT", "DATABASE", "ACCOUNT", "REGION", "DOMAIN")
        }


def test_strangers_hold_no_memory(world: World) -> None:
    def memory() -> int:
        text = Path(f"/proc/{world.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) << 10

    before = memory()
    peers = []
    for _ in range(100):
        peer = socket.create_connection(("127.0.0.1", world.port))
        with contextlib.suppress(OSError):
            peer.sendall(
                b"PUT /bucket/key HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (4 << 20)
            )
        peers.append(peer)
    for _ in range(100):
        peer = socket.create_connection(("127.0.0.1", world.port))
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 50_000)
        peers.append(peer)
    assert world.client().list_buckets()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert memory() - before < 100 << 20
    for peer in peers:
        peer.close()


BODY = b"precious"
PIECES = st.sampled_from(
    [
        "tagging",
        "acl",
        "uploads",
        "versions",
        "policy",
        "delete",
        "list-type=2",
        "versionId=null",
        "uploadId=x",
        "partNumber=1",
        "encryption",
        "lifecycle",
        "retention",
        "x-id=PutObject",
        "append",
        "torrent",
        "restore",
        "a=b",
    ]
)
PATHS = st.sampled_from(
    ["", "/", "/other", "//kept", "/kept/", "/./kept", "/x/../kept", "/KEPT", "/kept%00", "/%2e%2e/x"]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "x-amz-acl",
            "x-amz-tagging",
            "x-amz-copy-source",
            "x-amz-checksum-crc32",
            "content-md5",
            "if-none-match",
            "range",
            "x-amz-meta-a",
            "x-amz-write-offset-bytes",
            "content-encoding",
            "x-amz-rename-source",
        ]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    max_size=3,
)


@pytest.fixture(scope="module")
def precious(world: World, new_name: Callable[[], str]) -> str:
    bucket = new_name()
    s3 = world.client()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="kept", Body=BODY, Tagging="k=v", Metadata={"m": "1"})
    return bucket


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS"]),
    PATHS,
    st.lists(PIECES, max_size=3, unique=True),
    HEADERS,
    st.binary(max_size=40) | st.just(b"<Tagging><TagSet/></Tagging>"),
)
def test_no_request_alters_an_object_that_it_does_not_name(
    world: World, precious: str, method: str, path: str, query: list[str], headers: dict[str, str], body: bytes
) -> None:
    url = f"http://127.0.0.1:{world.port}/{precious}{path}" + ("?" + "&".join(query) if query else "")
    who = world.home.operator
    request = AWSRequest(method, url, headers=dict(headers))
    S3SigV4QueryAuth(Credentials(who.access_key_id, who.secret_access_key), "s3", REGION, 60).add_auth(request)
    target = request.url.partition(f":{world.port}")[2]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\nConnection: close\r\n{lines}"
    with socket.create_connection(("127.0.0.1", world.port), timeout=60) as peer:
        peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while data := peer.recv(65536):
            answer += data
    status = int(answer.split()[1])
    assert status != 500, answer
    s3 = world.client()
    found = s3.get_object(Bucket=precious, Key="kept")
    assert (found["Body"].read(), found["Metadata"]) == (BODY, {"m": "1"})
    assert s3.get_object_tagging(Bucket=precious, Key="kept")["TagSet"] == [{"Key": "k", "Value": "v"}]
