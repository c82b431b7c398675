"""Daytona's edge: what is done in sandboxes, and what is malformed of that."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable

import httpx
import pytest
import websockets

from emberbox.edges.daytona.toolbox import session_scripts as scripts
from emberbox.edges.daytona.toolbox.sessions import read_sessions
from support.e2b_world import E2bPlane
from support.waiting import wait_for_async

Create = Callable[..., Awaitable[str]]


async def test_a_command_has_one_text_in_the_order_of_its_writes(client: httpx.AsyncClient, create: Create) -> None:
    sandbox = await create(env={"A": "sandbox", "B": "sandbox"})
    body = {"command": "echo 1 $A $B; echo 2 >&2; echo 3; exit 4", "envs": {"B": "command"}}
    answer = await client.post(f"/toolbox/{sandbox}/process/execute", json=body)
    assert answer.json() == {"exitCode": 4, "result": "1 sandbox command\n2\n3\n"}


async def test_the_sandboxs_user_is_whose_rights_count(client: httpx.AsyncClient, create: Create) -> None:
    own, nobodys = await create(user=getpass.getuser()), await create(user="nobody-there")
    answers = [
        await client.post(f"/toolbox/{sandbox}/process/execute", json={"command": "true"}) for sandbox in (own, nobodys)
    ]
    assert answers[0].json()["exitCode"] == 0
    assert (answers[1].status_code, "no such user" in answers[1].json()["message"]) == (400, True)
    assert (await client.get(f"/toolbox/{nobodys}/files?path=/")).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("execute", {}, "command must be a text"),
        ("execute", {"command": "a\0b"}, "no zero bytes"),
        ("execute", {"command": "true", "cwd": 1}, "cwd must be a path"),
        ("execute", {"command": "true", "timeout": 86_401}, "timeout must be 1 to 86400 seconds"),
        ("execute", {"command": "true", "envs": {"A": 1}}, "envs must be"),
        ("code-run", {"code": "1", "language": "cobol"}, "language must be one of python, javascript"),
        ("code-run", {"code": "1", "language": "python", "argv": "a"}, "argv must be a list of texts"),
        ("session", {"sessionId": "../x"}, "sessionId must be of the form"),
        ("session", {"sessionId": "entrypoint"}, "sessionId must be of the form"),
    ],
)
async def test_malformed_commands_are_refused(
    client: httpx.AsyncClient, create: Create, path: str, body: dict[str, object], told: str
) -> None:
    answer = await client.post(f"/toolbox/{await create()}/process/{path}", json=body)
    assert (answer.status_code, answer.json()["source"]) == (400, "DAYTONA_DAEMON")
    assert told in answer.json()["message"]


async def test_malformed_forms_are_refused_and_write_nothing(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create()
    place, kind = f"/toolbox/{sandbox}/files/bulk-upload", {"content-type": "multipart/form-data; boundary=b"}
    cut = b'--b\r\nContent-Disposition: form-data; name="files[0].file"; filename="cut"\r\n\r\nhalf'
    none = b'--b\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\nx\r\n--b--\r\n'
    for data, headers, status in (
        (b"", {"content-type": "application/json"}, 415),
        (b"", {"content-type": "multipart/form-data"}, 400),
        (b"nonsense", kind, 400),
        (cut, kind, 400),
        (none, kind, 400),
    ):
        answer = await client.post(place, content=data, headers=headers)
        assert answer.status_code == status, data
        assert answer.json()["errors"] == [answer.json()["message"]]
    assert [path.name for path in plane.local.home(sandbox).iterdir()] in ([], ["cut"])


async def test_logs_are_followed_by_whoever_may(plane: E2bPlane, client: httpx.AsyncClient, create: Create) -> None:
    sandbox = await create()
    inside = f"/toolbox/{sandbox}/process/session"
    assert (await client.post(inside, json={"sessionId": "one"})).status_code == 201
    asked = {"command": "echo out; echo err >&2; read x; exit 0", "runAsync": True}
    begun = (await client.post(f"{inside}/one/exec", json=asked)).json()["cmdId"]
    logs = f"{plane.url.removesuffix('/api').replace('http', 'ws')}{inside}/one/command"
    headers = {"authorization": client.headers["authorization"]}

    for place, given, status in (
        (f"{logs}/{begun}/logs?follow=true", {}, 401),
        (f"{logs}/none/logs?follow=true", headers, 404),
        (f"{plane.url.replace('http', 'ws')}/socket.io/", headers, 403),
    ):
        with pytest.raises(websockets.InvalidStatus) as failed:
            await websockets.connect(place, additional_headers=given)
        assert failed.value.response.status_code == status
    async with websockets.connect(f"{logs}/{begun}/logs?follow=true", additional_headers=headers) as socket:
        heard = {await socket.recv(), await socket.recv()}
        assert heard == {b"\x01\x01\x01out\n", b"\x02\x02\x02err\n"}
        sent = await client.post(f"{inside}/one/command/{begun}/input", json={"data": "go\n"})
        assert sent.status_code == 204
        with pytest.raises(websockets.ConnectionClosedOK):
            await socket.recv()
    assert (await client.post(f"{inside}/one/command/{begun}/input", json={"data": "x"})).status_code == 410
    assert (await client.delete(f"{inside}/one")).status_code == 204


async def test_a_stop_cuts_off_who_follows(plane: E2bPlane, client: httpx.AsyncClient, create: Create) -> None:
    sandbox = await create()
    inside = f"/toolbox/{sandbox}/process/session"
    await client.post(inside, json={"sessionId": "one"})
    begun = (await client.post(f"{inside}/one/exec", json={"command": "sleep 60", "runAsync": True})).json()["cmdId"]
    place = f"{plane.url.removesuffix('/api').replace('http', 'ws')}{inside}/one/command/{begun}/logs?follow=true"
    headers = {"authorization": client.headers["authorization"]}
    async with websockets.connect(place, additional_headers=headers) as socket:
        await client.post(f"/api/sandbox/{sandbox}/stop")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    await client.post(f"/api/sandbox/{sandbox}/start")
    (path,) = plane.directory.glob("sessions-*/one/pid")
    shell = int(path.read_text())
    os.kill(shell, 0)  # it is there
    assert (await client.delete(f"{inside}/one")).status_code == 204
    await wait_for_async("its shell is gone", lambda: not is_there(shell), 60)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no JSON", "must be a JSON object"),
        ('{"code": 1}', "must be a JSON object with code"),
        ('{"code": "1", "envs": {"A": 1}}', "envs must be"),
        ('{"code": "1", "timeout": -1}', "timeout must be 0 to 86400 seconds"),
        ('{"code": "1", "contextId": "none"}', "Context none not found"),
    ],
)
async def test_malformed_code_is_refused(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create, message: str, told: str
) -> None:
    place = f"/toolbox/{await create()}/process/interpreter/execute"
    url = f"{plane.url.removesuffix('/api').replace('http', 'ws')}{place}"
    headers = {"authorization": client.headers["authorization"]}
    async with websockets.connect(url, additional_headers=headers) as socket:
        await socket.send(message)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert told in closed.value.rcvd.reason


def test_what_a_guest_tells_of_sessions_may_be_anything() -> None:
    assert read_sessions(b"") == []
    (session,) = read_sessions(b"session\0one\0command\0id\0" + b"12x\0echo\0command\0")
    assert session.shown()["commands"][0] == {"id": "id", "command": "echo"}


def test_the_scripts_tell_their_ends_apart() -> None:
    codes = (
        scripts.FOREIGN, scripts.SESSION_THERE, scripts.NO_SESSION, scripts.NO_COMMAND, scripts.ENDED,
        scripts.NO_INPUT, scripts.COMPLETED,
    )  # fmt: skip
    assert len(set(codes)) == len(codes)
