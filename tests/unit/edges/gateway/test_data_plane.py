"""The shell, commands and files through a real gateway, with commands made of a few lines."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_command import FakeCommand
from gateway_world import World
from openapi_spec_validator import validate
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from emberbox.edges.gateway.data_plane.app import create_data_plane
from emberbox.edges.gateway.data_plane.openapi import DOCUMENT
from emberbox.edges.gateway.data_plane.shell import read_resize
from emberbox.edges.gateway.judge.authoriser import DATA_PLANE
from emberbox.guest.protocol import Command, FilesWork, Frame, FrameType, encode_size, encode_u32
from emberbox.model.errors import GuestError

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXEC = "emberbox.exec.v1"


@contextlib.asynccontextmanager
async def open_websocket(
    world: World, path: str = "/shell", subprotocols: list[str] | None = None, token: str | None = ""
) -> AsyncIterator[ClientConnection]:
    headers = {} if token is None else {"x-aws-proxy-auth": token or world.token(kind="shell")}
    async with connect(
        f"wss://localhost:{world.gateway.port}{path}",
        host="127.0.0.1",
        ssl=world.trust(),
        additional_headers=headers,
        subprotocols=subprotocols,  # type: ignore[arg-type]
        proxy=None,
    ) as websocket:
        yield websocket


def run(world: World, command: FakeCommand, microvm_id: str = "mvm-a") -> list[Command]:
    """Let a microVM run this command; returns the list of what it is asked to run."""
    asked: list[Command] = []

    def start(wanted: Command) -> Any:
        asked.append(wanted)
        return command.guest

    world.directory.commands[microvm_id] = start
    return asked


async def read_closing(websocket: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionClosed):
            async for _ in websocket:
                pass
    return websocket.protocol.close_code or 0, websocket.protocol.close_reason or ""


async def wait(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 20)


# --- the shell


def echo(command: FakeCommand, frame: Frame) -> None:
    if frame.type is FrameType.DATA:
        command.write(frame.payload.upper())
        if frame.payload == b"exit\n":
            command.exit(3)


async def test_the_shell_speaks_the_frames_of_the_aws_service(world: World) -> None:
    command = FakeCommand(echo)
    asked = run(world, command)
    async with open_websocket(world) as websocket:
        first = json.loads(await websocket.recv())
        assert first.keys() == {"type", "session_id"}
        assert first["type"] == "session_init"
        await websocket.send('{"type": "resize", "cols": 120, "rows": 40}')
        await websocket.send("text")
        assert await websocket.recv() == b"TEXT"
        await websocket.send(b"\xff\x00binary")
        assert await websocket.recv() == b"\xff\x00BINARY"
        await websocket.send('{"type":"unknown"}')
        assert await websocket.recv() == b'{"TYPE":"UNKNOWN"}'
        await websocket.send("exit\n")
        assert await read_closing(websocket) == (1000, "shell exited")
    assert asked == [Command(terminal=True)]
    assert command.controls() == [(FrameType.RESIZE, encode_size(120, 40))]


@pytest.mark.parametrize("path", ["/", "/shell", "/exec", "/any/thing?x=1"])
async def test_the_path_of_a_shell_does_not_matter(world: World, path: str) -> None:
    run(world, FakeCommand())
    async with open_websocket(world, path) as websocket:
        assert json.loads(await websocket.recv())["type"] == "session_init"


async def test_a_microvm_that_has_just_ended_runs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wake(microvm_id: str) -> str:
        world.directory.ended.add(microvm_id)
        return "mvm-a.1"

    monkeypatch.setattr(world.directory, "wake", wake)
    answer = await world.request("/files?path=/x", token=world.token(kind="shell"))
    assert (answer.status_code, answer.json()) == (502, {"message": "mvm-a has ended"})


async def test_a_browser_says_everything_in_subprotocols(world: World) -> None:
    run(world, FakeCommand())
    token = world.token(kind="shell")
    offered = ["lambda-microvms", f"lambda-microvms.authentication.{token}", "lambda-microvms.port.8022"]
    async with open_websocket(world, subprotocols=offered, token=None) as websocket:
        assert websocket.subprotocol == "lambda-microvms"
        assert json.loads(await websocket.recv())["type"] == "session_init"


async def test_a_client_that_leaves_hangs_the_shell_up(world: World) -> None:
    command = FakeCommand()
    run(world, command)
    async with open_websocket(world) as websocket:
        await websocket.recv()
    await wait(command.closed)


async def test_a_suspend_closes_the_shell_with_a_reason(world: World) -> None:
    command = FakeCommand()
    run(world, command)
    async with open_websocket(world) as websocket:
        await websocket.recv()
        command.break_off()
        code, reason = await read_closing(websocket)
    assert code == 1001
    assert "suspended" in reason


async def test_a_shell_that_cannot_be_started_is_no_websocket(world: World) -> None:
    def refuse(command: Command) -> Any:
        raise GuestError("this image was built by an older Emberbox")

    world.directory.commands["mvm-a"] = refuse
    with pytest.raises(InvalidStatus) as refused:
        async with open_websocket(world):
            pass
    assert refused.value.response.status_code == 502
    assert b"older Emberbox" in (refused.value.response.body or b"")


async def test_a_microvm_that_does_not_run_is_refused_by_the_authoriser(world: World) -> None:
    world.directory.labels.clear()
    with pytest.raises(InvalidStatus) as refused:
        async with open_websocket(world):
            pass
    assert refused.value.response.status_code == 502


async def test_an_application_token_opens_no_shell(world: World) -> None:
    command = FakeCommand()
    asked = run(world, command)
    token = world.token(allowed_ports=[{"allPorts": {}}])
    with pytest.raises(InvalidHandshake):  # the application's own WebSocket, which here is a poor one
        async with open_websocket(world, token=token):
            pass
    assert asked == []
    assert world.guests["a"].seen[-1].target == "/shell"


async def test_a_client_cannot_name_another_microvm(world: World) -> None:
    asked = run(world, FakeCommand(), "mvm-b")
    other = run(world, FakeCommand(lambda command, frame: command.exit(0)))
    body = json.dumps({"command": ["true"]}).encode()
    await world.request(
        "/exec", method="POST", content=body, token=world.token(kind="shell"), headers=[("x-emberbox-microvm", "mvm-b")]
    )
    assert asked == []
    assert len(other) == 1


@pytest.mark.parametrize(
    "text",
    ['{"type":"resize","cols":1}', '{"type":"resize","cols":"1","rows":2}', '{"type":"resize","cols":-1,"rows":2}',
     '{"type":"resize","cols":70000,"rows":2}', "[]", "nonsense", '"resize"'],
)  # fmt: skip
async def test_what_is_no_resize_is_typed(text: str) -> None:
    assert read_resize(text) is None


# --- what a shell token is not good for


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/"), ("GET", "/exec"), ("DELETE", "/files"), ("GET", "/shell")]
)
async def test_plain_requests_are_502_as_on_aws_and_wake_nothing(world: World, method: str, path: str) -> None:
    answer = await world.request(path, method=method, token=world.token(kind="shell"))
    assert (answer.status_code, answer.content) == (502, b"")
    assert world.directory.connects == []


# --- commands over HTTP


async def post(world: World, content: Any) -> Any:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await world.request("/exec", method="POST", content=body, token=world.token(kind="shell"))


async def test_a_command_answers_line_by_line(world: World) -> None:
    def work(command: FakeCommand, frame: Frame) -> None:
        if frame.type is FrameType.EOF:
            command.write(command.input())
            command.write(b"\xff", FrameType.ERROR_DATA)
            command.exit(7)

    command = FakeCommand(work)
    asked = run(world, command)
    request = {
        "command": ["cat", "-"],
        "environmentVariables": {"A": "1"},
        "workingDirectory": "/tmp",
        "user": "daemon",
        "input": "grüße",
    }
    answer = await post(world, request)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in lines] == ["stdout", "stderr", "exit"]
    assert base64.b64decode(lines[0]["data"]).decode() == "grüße"
    assert base64.b64decode(lines[1]["data"]) == b"\xff"
    assert lines[2] == {"type": "exit", "exitCode": 7}
    assert asked == [Command(("cat", "-"), (("A", "1"),), "/tmp", "daemon")]


async def test_input_and_output_beyond_the_windows_do_not_wait_for_each_other(world: World) -> None:
    """The command takes input only as far as its output is read, as `cat` does."""
    command = FakeCommand(auto_window=False)
    taken = 0

    def work(fake: FakeCommand, frame: Frame) -> None:
        nonlocal taken
        if frame.type is FrameType.DATA:
            fake.write(frame.payload)
        elif frame.type is FrameType.WINDOW:
            fake.give_window(frame.payload)
            taken += int.from_bytes(frame.payload, "little")
            if taken == 1_000_000:
                fake.exit(0)

    command.answer = work
    run(world, command)
    answer = await post(world, {"command": ["cat"], "input": "x" * 1_000_000})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sum(len(base64.b64decode(line["data"])) for line in lines[:-1]) == 1_000_000
    assert lines[-1] == {"type": "exit", "exitCode": 0}


async def test_a_suspend_ends_the_answer_with_an_error(world: World) -> None:
    def work(command: FakeCommand, frame: Frame) -> None:
        if frame.type is FrameType.EOF:
            command.break_off()

    run(world, FakeCommand(work))
    (line,) = (await post(world, {"command": ["x"]})).text.splitlines()
    assert json.loads(line)["type"] == "error"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "not JSON"),
        ([], "not of type 'object'"),
        ({}, "'command' is a required property"),
        ({"command": []}, "command: "),
        ({"command": ["a", 1]}, "command[1]: 1 is not of type 'string'"),
        ({"command": ["a\0"]}, "command[0]: "),
        ({"command": ["a"], "user": ""}, "user: "),
        ({"command": ["a"], "environmentVariables": {"a=b": "c"}}, "environmentVariables: "),
        ({"command": ["a"], "environmentVariables": {"a": 1}}, "environmentVariables.a: 1 is not of type 'string'"),
        ({"command": ["a"], "comand": 1}, "'comand' was unexpected"),
    ],
)
async def test_a_malformed_request_names_the_member(world: World, content: Any, text: str) -> None:
    answer = await post(world, content)
    assert answer.status_code == 400
    assert text in answer.json()["message"]


async def test_a_request_beyond_the_limit_is_refused(world: World) -> None:
    answer = await post(world, b"x" * ((1 << 20) + 1))
    assert answer.status_code == 413


# --- commands over a WebSocket


async def test_a_websocket_carries_separate_streams_and_controls(world: World) -> None:
    def work(command: FakeCommand, frame: Frame) -> None:
        match frame.type:
            case FrameType.DATA:
                command.write(frame.payload)
                command.write(b"!", FrameType.ERROR_DATA)
            case FrameType.EOF:
                command.exit(0)

    command = FakeCommand(work)
    asked = run(world, command)
    async with open_websocket(world, "/exec", [EXEC]) as websocket:
        assert websocket.subprotocol == EXEC
        await websocket.send('{"command": ["cat"], "input": "a"}')
        await websocket.send(b"b")
        received = [await websocket.recv() for _ in range(4)]
        assert received == [b"\x01a", b"\x02!", b"\x01b", b"\x02!"]
        await websocket.send('{"type":"signal","signal":15}')
        await websocket.send('{"type":"resize","cols":80,"rows":24}')
        await websocket.send('{"type":"newer"}')
        await websocket.send("nonsense")
        await websocket.send('{"type":"eof"}')
        assert json.loads(await websocket.recv()) == {"type": "exit", "exitCode": 0}
        assert await read_closing(websocket) == (1000, "command exited")
    assert asked == [Command(("cat",))]
    assert command.controls() == [
        (FrameType.SIGNAL, encode_u32(15)),
        (FrameType.RESIZE, encode_size(80, 24)),
        (FrameType.EOF, b""),
    ]


@pytest.mark.parametrize("first", ['{"command": []}', b"bytes"])
async def test_a_first_message_that_is_no_request_is_refused(world: World, first: str | bytes) -> None:
    run(world, FakeCommand())
    async with open_websocket(world, subprotocols=[EXEC]) as websocket:
        await websocket.send(first)
        assert json.loads(await websocket.recv())["type"] == "error"
        assert (await read_closing(websocket))[0] == 1008


# --- files


def archive(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.uid, entry.gid, entry.type = len(content), 0o640, 33, 34, kind
    header = entry.tobuf(tarfile.GNU_FORMAT)
    return header + content + bytes(-len(content) % 512) + bytes(1024)


async def get(world: World, query: str, accept: str = "*/*") -> Any:
    headers = [("accept", accept)]
    return await world.request(f"/files?{query}", token=world.token(kind="shell"), headers=headers)


def packer(content: bytes) -> FakeCommand:
    """A command that has written an archive, in pieces, and ended."""
    command = FakeCommand()
    for at in range(0, len(content), 700):
        command.write(content[at : at + 700])
    command.exit(0)
    return command


@pytest.mark.parametrize("name", ["short", "long" * 50])
async def test_a_file_is_taken_out_of_its_archive(world: World, name: str) -> None:
    content = bytes(range(256)) * 9
    asked = run(world, packer(archive(name, content)))
    answer = await get(world, f"path=/srv/{name}")
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["content-length"] == str(len(content))
    assert (answer.headers["x-file-mode"], answer.headers["x-file-uid"]) == ("0640", "33")
    assert asked == [Command((f"/srv/{name}",), files=FilesWork.PACK_FOLLOWED)]


async def test_an_archive_passes_as_it_is(world: World) -> None:
    packed = archive("d/", b"", tarfile.DIRTYPE) + b"whatever else"
    asked = run(world, packer(packed))
    answer = await get(world, "path=/d&user=daemon", "application/x-tar")
    assert (answer.status_code, answer.content) == (200, packed)
    assert answer.headers["content-type"] == "application/x-tar"
    assert asked == [Command(("/d",), user="daemon", files=FilesWork.PACK)]


async def test_a_directory_is_no_file(world: World) -> None:
    command = packer(archive("d/", b"", tarfile.DIRTYPE))
    run(world, command)
    answer = await get(world, "path=/d")
    assert answer.status_code == 409
    assert "application/x-tar" in answer.json()["message"]
    assert command.closed.is_set()


@pytest.mark.parametrize(
    ("code", "status"),
    [(errno.ENOENT, 404), (errno.EACCES, 403), (errno.ENOTDIR, 409), (errno.ENOSPC, 507), (126, 400), (99, 502)],
)
async def test_what_fails_in_the_guest_has_a_status_and_the_guests_words(world: World, code: int, status: int) -> None:
    command = FakeCommand()
    command.write(b"/x: the reason\n", FrameType.ERROR_DATA)
    command.exit(code)
    run(world, command)
    answer = await get(world, "path=/x")
    assert (answer.status_code, answer.json()) == (status, {"message": "/x: the reason"})


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header that states any size."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


LONG_NAME = header("././@LongLink", 100, tarfile.GNUTYPE_LONGNAME) + bytes(512)


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (bytes(1024), 409),  # of a device nothing is packed
        (header("f", 0, tarfile.CHRTYPE), 409),
        (b"\xff" * 512, 502),
        (b"f" * 512, 502),
        (header("././@LongLink", 8 << 30, tarfile.GNUTYPE_LONGNAME) + bytes(4096), 502),
        (LONG_NAME * 3 + bytes(512), 502),
        (header("f", -1), 502),
        (header("f", 1 << 64), 502),
    ],
)
async def test_an_archive_that_lies_is_refused(world: World, packed: bytes, status: int) -> None:
    run(world, packer(packed))
    answer = await get(world, "path=/f")
    assert answer.status_code == status
    assert answer.json()["message"]


async def test_a_file_that_cannot_be_read_is_no_answer(world: World) -> None:
    command = FakeCommand()
    command.write(header("kcore", 1 << 47))
    command.write(b"/proc/kcore: Operation not permitted\n", FrameType.ERROR_DATA)
    command.exit(errno.EPERM)
    run(world, command)
    answer = await get(world, "path=/proc/kcore")
    assert (answer.status_code, answer.json()) == (403, {"message": "/proc/kcore: Operation not permitted"})


async def test_a_copy_whose_microvm_is_suspended_before_it_begins_is_a_bad_gateway(world: World) -> None:
    command = FakeCommand()
    command.break_off()
    run(world, command)
    answer = await get(world, "path=/f")
    assert answer.status_code == 502
    assert "suspended" in answer.json()["message"]


async def test_json_that_is_too_deep_is_a_bad_request(world: World) -> None:
    run(world, FakeCommand())
    answer = await world.request("/exec", method="POST", content=b"[" * 90_000, token=world.token(kind="shell"))
    assert answer.status_code == 400
    assert "too deep" in answer.json()["message"]


async def test_a_copy_that_breaks_off_shows(world: World) -> None:
    command = FakeCommand()
    command.write(archive("f", b"x" * 5000)[:3000])
    command.exit(errno.EIO)
    run(world, command)
    with pytest.raises(Exception, match=r"(?i)peer|incomplete|closed"):
        await get(world, "path=/f")


async def put(world: World, query: str, content: bytes, kind: str = "application/octet-stream") -> Any:
    headers = [("content-type", kind)]
    token = world.token(kind="shell")
    return await world.request(f"/files?{query}", method="PUT", content=content, token=token, headers=headers)


def unpacker(code: int = 0, words: bytes = b"") -> FakeCommand:
    def work(command: FakeCommand, frame: Frame) -> None:
        if frame.type is FrameType.EOF:
            command.write(words, FrameType.ERROR_DATA)
            command.exit(code)

    return FakeCommand(work)


async def test_a_file_is_put_into_an_archive(world: World, tmp_path: Any) -> None:
    command = unpacker()
    asked = run(world, command)
    assert (await put(world, "path=/srv/f&mode=0600&uid=5&gid=6", b"content")).status_code == 204
    assert asked == [Command(("/srv/",), files=FilesWork.UNPACK)]
    (tmp_path / "t").write_bytes(command.input())
    with tarfile.open(tmp_path / "t") as opened:
        (entry,) = opened.getmembers()
        assert (entry.name, entry.mode, entry.uid, entry.gid, entry.size) == ("f", 0o600, 5, 6, 7)
        assert opened.extractfile(entry).read() == b"content"  # type: ignore[union-attr]


async def test_a_write_that_fails_before_anything_is_sent_has_the_guests_words(world: World) -> None:
    command = FakeCommand()
    command.write(b"/missing: No such file or directory", FrameType.ERROR_DATA)
    command.exit(errno.ENOENT)
    run(world, command)
    answer = await put(world, "path=/missing/file", b"content")
    assert (answer.status_code, answer.json()) == (404, {"message": "/missing: No such file or directory"})


async def test_an_archive_is_passed_on(world: World) -> None:
    command = unpacker()
    asked = run(world, command)
    packed = archive("f", b"x" * 100_000)
    assert (await put(world, "path=/srv", packed, "application/x-tar")).status_code == 204
    assert command.input() == packed
    assert asked == [Command(("/srv",), files=FilesWork.UNPACK)]


async def test_a_write_that_fails_is_answered_after_the_whole_body(world: World) -> None:
    def work(command: FakeCommand, frame: Frame) -> None:
        if frame.type is FrameType.DATA and len(command.seen) == 1:
            command.write(b"f: No space left on device", FrameType.ERROR_DATA)
            command.exit(errno.ENOSPC)

    run(world, FakeCommand(work))
    answer = await put(world, "path=/srv", b"x" * 3_000_000, "application/x-tar")
    assert (answer.status_code, answer.json()) == (507, {"message": "f: No space left on device"})


@pytest.mark.parametrize(
    ("query", "text"),
    [("", "path must"), ("path=", "path must"), ("path=%00", "path must"), ("path=" + "x" * 4096, "path must"),
     ("path=/d/", "file's name"), ("path=/", "file's name"), ("path=/f&mode=8", "mode must be a number, octal"),
     ("path=/f&mode=10000", "at most 7777"), ("path=/f&uid=-1", "uid must"), ("path=/f&gid=x", "gid must")],
)  # fmt: skip
async def test_a_malformed_query_names_the_parameter(world: World, query: str, text: str) -> None:
    answer = await put(world, query, b"x")
    assert answer.status_code == 400
    assert text in answer.json()["message"]


async def test_a_file_of_unknown_size_is_refused(world: World) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x"

    headers = {"x-aws-proxy-auth": world.token(kind="shell"), "host": "localhost"}
    url = f"https://127.0.0.1:{world.gateway.port}/files?path=/f"
    answer = await world.client.put(url, content=parts(), headers=headers, extensions={"sni_hostname": "localhost"})
    assert answer.status_code == 411


# --- the document


async def test_the_document_is_served_and_valid(world: World) -> None:
    answer = await world.request("/openapi.json", token=world.token(kind="shell"))
    assert answer.json() == DOCUMENT
    validate(DOCUMENT)


async def test_document_authoriser_and_routes_know_the_same_operations(world: World) -> None:
    websocket = {("GET", "/exec")}
    documented = {
        (method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"
    }
    routes: list[Any] = create_data_plane(world.directory).routes
    served = {(method, route.path) for route in routes for method in getattr(route, "methods", None) or ()}
    assert documented - websocket == DATA_PLANE == served
