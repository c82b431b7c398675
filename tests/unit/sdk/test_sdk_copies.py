"""Trees to a sandbox and from one, as they are read and as they come."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from sdk_world import Server, members, token

from emberbox_sdk import AsyncSandbox, DisconnectedError, NotFoundError, Sandbox
from emberbox_sdk._async import platform


@pytest.fixture
def server() -> Server:
    server = Server()
    server.on("POST", "/shell-auth-token", token())
    server.on("PUT", "/files", httpx2.Response(204))
    return server


@pytest.fixture
def sandbox(server: Server) -> Sandbox:
    return Sandbox.connect("mvm-1", check=False, client=server.client())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "f").write_bytes(b"x" * 700_000)
    return tmp_path / "tree"


def archived(tree: Path) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tree, tree.name)
    return packed.getvalue()


def sent(server: Server) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(server.asked[-1].content), mode="r:") as archive:
        return archive.getnames()


def test_nothing_is_asked_of_the_server_for_a_sandbox_that_need_not_be_checked(server: Server) -> None:
    sandbox = Sandbox.connect("mvm-1", check=False, client=server.client())
    assert (sandbox.id, sandbox.endpoint, server.asked) == ("mvm-1", "", [])


def test_a_tree_is_sent_as_it_is_read(server: Server, sandbox: Sandbox, tree: Path) -> None:
    counts: list[int] = []
    sandbox.files.upload(tree, "/srv", user="me", on_bytes=counts.append)
    assert sent(server) == ["tree", "tree/sub", "tree/sub/f"]
    assert dict(server.asked[-1].url.params) == {"path": "/srv", "user": "me"}
    assert counts == sorted(counts)
    assert counts[-1] == len(server.asked[-1].content)
    sandbox.files.upload(f"{tree}/.", "/srv")
    assert sent(server)[0] == "."


def test_what_is_not_there_is_told_before_anything_is_sent(server: Server, sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sandbox.files.upload(tmp_path / "missing", "/srv")
    assert server.asked == []


@pytest.mark.parametrize("into", [True, False])
def test_a_tree_comes_as_it_is_sent(server: Server, sandbox: Sandbox, tree: Path, tmp_path: Path, into: bool) -> None:
    server.on("GET", "/files", httpx2.Response(200, content=archived(tree)))
    counts: list[int] = []
    sandbox.files.download("/tree", tmp_path / "new", into=into, on_bytes=counts.append)
    copied = tmp_path / "new" / "tree" if into else tmp_path / "new"
    assert (copied / "sub" / "f").read_bytes() == b"x" * 700_000
    assert counts[-1] == len(archived(tree))
    assert server.asked[-1].headers["accept"] == "application/x-tar"


class Broken(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that breaks off in the middle."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx2.ReadError("it is gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content
        raise httpx2.ReadError("it is gone")


def test_a_copy_that_breaks_off_is_told(server: Server, sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    server.answers["GET", "/files"] = [lambda _: httpx2.Response(200, stream=Broken(archived(tree)[:300_000]))]
    with pytest.raises(DisconnectedError, match=r"broke off \(it is gone\); what came of it is incomplete"):
        sandbox.files.download("/tree", tmp_path / "new")


async def test_the_other_half_does_the_same(server: Server, tree: Path, tmp_path: Path) -> None:
    server.on("GET", "/files", httpx2.Response(200, content=archived(tree)))
    async with await AsyncSandbox.connect("mvm-1", check=False, client=server.async_client()) as sandbox:
        await sandbox.files.upload(tree, "/srv")
        assert sent(server) == ["tree", "tree/sub", "tree/sub/f"]
        await sandbox.files.download("/tree", tmp_path / "new")
        assert (tmp_path / "new" / "tree" / "sub" / "f").read_bytes() == b"x" * 700_000
        server.answers["GET", "/files"] = [lambda _: httpx2.Response(200, stream=Broken(archived(tree)[:300_000]))]
        with pytest.raises(DisconnectedError):
            await sandbox.files.download("/tree", tmp_path / "again")
        server.on("GET", "/files", members({"message": "/a: No such file"}, 404))
        with pytest.raises(NotFoundError):
            await sandbox.files.download("/a", tmp_path)


async def test_a_copy_that_is_cancelled_has_ended_when_that_is_told() -> None:
    """No thread goes on reading, nor writing files, once the caller has been told."""
    begun, ended = asyncio.Event(), threading.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await asyncio.sleep(3600)

    def read(more: platform.Callable[[], bytes]) -> None:
        try:
            while more():
                pass
        finally:
            ended.set()

    task = asyncio.ensure_future(platform.read_in_thread(endless(), read))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_a_fork_need_not_be_waited_for(server: Server, sandbox: Sandbox) -> None:
    forks = {
        "items": [{"microvmId": f"mvm-{n}", "endpoint": f"e{n}"} for n in (2, 3)],
        "sourceStoppedInMilliseconds": 7,
    }
    server.on("POST", "/fork", members(forks))
    made = sandbox.fork(2, wait=False)
    assert [(one.id, one.endpoint, one.source_stopped_ms) for one in made] == [("mvm-2", "e2", 7), ("mvm-3", "e3", 7)]
    assert [request.url.path.rpartition("/")[2] for request in server.asked] == ["fork"]


def test_a_rollback_takes_a_version(server: Server, sandbox: Sandbox) -> None:
    server.on("POST", "/restore", members({}))
    server.on("GET", "/microvms/mvm-1", members({"state": "RUNNING"}))
    sandbox.rollback("3.0", wait=False)
    assert len(server.asked) == 1
    sandbox.rollback("3.0")
    assert server.asked[-1].method == "GET"
    assert server.asked[0].content == b'{"imageVersion": "3.0"}'


def test_the_name_of_an_endpoint_is_looked_up_where_it_is_needed(server: Server, sandbox: Sandbox) -> None:
    server.on("GET", "/microvms/mvm-1", members({"endpoint": "e.test", "state": "RUNNING"}))
    assert sandbox.url().public_url == "https://e.test/"
    assert sandbox.endpoint == "e.test"


def test_without_a_gateway_the_endpoint_is_asked_for_at_once(server: Server) -> None:
    server.on("GET", "/microvms/mvm-1", members({"endpoint": "e.test", "state": "RUNNING"}))
    config = Sandbox.connect("x", check=False, client=server.client())._client.config
    client = server.client(type(config)(config.api_url, "AKID", "secret"))
    assert Sandbox.connect("mvm-1", check=False, client=client).endpoint == "e.test"
