"""Operations, the push channel, files and terminals: with the rights of the session's key, and no more."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from emberbox.edges.console.live import SESSION_ENDED
from emberbox.model.caller import Caller
from emberbox.model.records import LogGroup
from emberbox.model.states import MicrovmState
from emberbox.time_limits import limit_s
from support.console_world import Channel, ConsolePlane

ARN = "arn:aws:lambda:us-east-1:{}:microvm-image:hello"
SHELL = "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:SHELL_INGRESS"


async def call(browser: httpx.AsyncClient, operation: str, **members: Any) -> httpx.Response:
    return await browser.post(f"/api/call/{operation}", json=members)


async def launch(console: ConsolePlane, browser: httpx.AsyncClient, **more: Any) -> str:
    """Launch a microVM and return its id."""
    arn = ARN.format(console.credential.account_id)
    answer = await call(browser, "RunMicrovm", imageIdentifier=arn, ingressNetworkConnectors=[SHELL], **more)
    assert answer.status_code < 300, answer.text
    return str(answer.json()["microvmId"])


async def hear_to_the_end(channel: Channel) -> None:
    """Take what is said until the other side closes."""
    async with asyncio.timeout(limit_s(20)):
        while True:
            await channel.websocket.recv()


async def limited(console: ConsolePlane, *statements: dict[str, Any], account: str | None = None) -> dict[str, str]:
    """Make a user who may do what the statements say; return what he logs in with."""
    own = console.credential
    caller = Caller(own.account_id, own.access_key_id, "us-east-1", "r", "127.0.0.1", credential=own)
    operator = console.handlers()["emberbox"]
    account = account or own.account_id
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    user = {"userName": "limited", "accountId": account}
    key = (await operator["CreateAccessKey"](caller, user))["accessKey"]
    await operator["PutPolicy"](caller, {**user, "policyName": "some", "policyDocument": document})
    return {"accessKeyId": key["accessKeyId"], "secretAccessKey": key["secretAccessKey"]}


def allow(*actions: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": "*"}


async def test_operations_are_those_of_the_api(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    told = (await call(browser, "GetMicrovm", microvmIdentifier=microvm_id)).json()
    assert told["microvmId"] == microvm_id
    wrong = await call(browser, "GetMicrovm", microvmIdentifier="")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "ValidationException")
    assert "microvmIdentifier" in wrong.json()["message"]
    unknown = await call(browser, "DropEverything")
    assert unknown.status_code == 404
    missing = await call(browser, "GetMicrovm", microvmIdentifier="microvm-none")
    assert (missing.status_code, missing.json()["code"]) == (404, "ResourceNotFoundException")
    typed = await call(browser, "ListMicrovms", maxResults="many")
    assert typed.status_code == 400
    await console.access.trail.flush()
    trail = "".join(path.read_text() for path in (console.directory / "audit").iterdir())
    assert "RunMicrovm" in trail
    assert "127.0.0.1" in trail


@pytest.mark.parametrize("body", ["[]", "1", "{", '"x"'])
async def test_what_is_no_object_is_refused(browser: httpx.AsyncClient, body: str) -> None:
    headers = {"content-type": "application/json"}
    assert (await browser.post("/api/call/ListMicrovms", content=body, headers=headers)).status_code == 400


async def test_a_session_may_do_what_its_key_may(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    proof = await limited(console, allow("lambda:ListMicrovms", "lambda:GetMicrovm"))
    async with console.browser() as other:
        await console.log_in(other, proof)
        assert (await call(other, "ListMicrovms")).status_code == 200
        for operation, members in (
            ("TerminateMicrovm", {"microvmIdentifier": microvm_id}),
            ("ListMicrovmImages", {}),
            ("LookupAuditEvents", {}),
            ("DescribeHost", {}),
        ):
            refused = await call(other, operation, **members)
            assert (refused.status_code, refused.json()["code"]) == (403, "AccessDeniedException"), operation
        for path in ("entries?path=/", "files?path=/etc/hostname"):
            assert (await other.get(f"/api/microvms/{microvm_id}/{path}")).status_code == 403
        async with console.channel(other) as channel:
            await channel.watch(1, "images")
            assert (await channel.told(1))["code"] == "AccessDeniedException"
            await channel.watch(2, "log", logGroup="/aws/lambda-microvms/hello", owner="x", version="1.0", since=0)
            assert (await channel.told(2))["code"] == "AccessDeniedException"


async def test_accounts_are_apart(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    own = console.credential
    caller = Caller(own.account_id, own.access_key_id, "us-east-1", "r", "127.0.0.1", credential=own)
    made = await console.handlers()["emberbox"]["CreateAccount"](
        caller, {"accountId": "222222222222", "accountName": "two"}
    )
    assert made
    proof = await limited(console, allow("*"), account="222222222222")
    async with console.browser() as other:
        await console.log_in(other, proof)
        assert (await call(other, "GetMicrovm", microvmIdentifier=microvm_id)).status_code == 404
        assert (await other.get(f"/api/microvms/{microvm_id}/entries?path=/")).status_code == 404
        async with console.channel(other) as channel:
            await channel.watch(1, "microvms")
            assert await channel.told(1) == {"all": []}
            for number, topic in enumerate(("microvm", "usage"), 2):
                await channel.watch(number, topic, microvmId=microvm_id)
                assert (await channel.told(number))["code"] == "ResourceNotFoundException"
            await call(browser, "TerminateMicrovm", microvmIdentifier=microvm_id)
            assert all(microvm_id not in json.dumps(told) for told in [await channel.told(1)] if told.get("changed"))


async def test_the_channel_tells_what_changes(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    first = await launch(console, browser)
    async with console.channel(browser) as channel:
        await channel.watch(1, "microvms")
        rows = (await channel.told(1))["all"]
        assert [row["id"] for row in rows] == [first]
        await channel.watch(2, "microvm", microvmId=first)
        assert (await channel.told(2))["microvm"]["microvmId"] == first
        await call(browser, "TerminateMicrovm", microvmIdentifier=first)
        states: set[str] = set()
        while "TERMINATED" not in states:
            told = await channel.told(1)
            states |= {row["state"] for row in told["changed"] if row["id"] == first}
        while (told := await channel.told(2))["microvm"]["state"] != "TERMINATED":
            pass
        reasons = [event["state"] for event in told["events"]]
        assert reasons[0] == "PENDING"
        assert reasons[-1] == "TERMINATED"
        second = await launch(console, browser)
        while second not in [row["id"] for row in told.get("changed", [])]:
            told = await channel.told(1)
        console.microvms.forget_terminated(console.microvms.find(first).terminated_at.replace(year=9999))  # type: ignore[union-attr]
        while "all" not in (told := await channel.told(1)):
            pass
        assert first not in [row["id"] for row in told["all"]]


async def test_images_and_logs_are_told_as_they_come(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    group = LogGroup(console.credential.account_id, "/aws/lambda-microvms/hello")
    async with console.channel(browser) as channel:
        await channel.watch(1, "images")
        assert [image["name"] for image in (await channel.told(1))["all"]] == ["hello"]
        console.add_image("more")
        while len((await channel.told(1))["all"]) < 2:
            pass
        since = 1_750_000_000
        await channel.watch(2, "log", logGroup=group.name, owner="b-1", version="0.0", since=since)
        assert await channel.told(2) == {"lines": []}
        hostile = "<img src=x onerror=alert(1)> \x1b[31mred"
        console._log_writer.write((group, "2025/06/15[0.0]b-1"), ["one", hostile])
        console._log_writer.write((group, "2025/06/15[0.0]b-2"), ["another's"])
        assert [line[1] for line in (await channel.told(2))["lines"]] == ["one", hostile]
        await channel.watch(3, "image", imageArn=ARN.format(group.account_id))
        told = await channel.told(3)
        assert [build["imageVersion"] for build in told["builds"]] == ["1.0"]
        await channel.unwatch(1)
        await channel.watch(4, "nonsense")
        await channel.watch(5, "microvm", microvmId=7)
        assert (await channel.told(5))["code"] == "ValidationException"


async def test_the_channel_ends_with_the_session(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    async with console.channel(browser) as channel:
        await channel.watch(1, "microvms")
        await channel.told(1)
        await browser.delete("/api/session")
        with pytest.raises(ConnectionClosed) as closed:
            await hear_to_the_end(channel)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == SESSION_ENDED


async def test_files_go_in_and_out(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    base = f"/api/microvms/{microvm_id}"
    home = console.local.home(microvm_id)
    name = "<b>&\n x"
    (home / name).write_text("hostile")
    (home / "sub").mkdir()
    (home / "link").symlink_to("sub")
    answer = await browser.get(f"{base}/entries", params={"path": str(home)})
    assert answer.status_code == 200, answer.text
    found = {entry["name"]: entry for entry in answer.json()["entries"]}
    assert found.keys() == {name, "sub", "link"}
    assert found[name]["isFile"]
    assert found["link"]["isDirectory"]
    assert found["link"]["target"] == "sub"
    assert answer.headers["content-type"].startswith("application/json")
    assert (await browser.get(f"{base}/entries", params={"path": f"{home}/none"})).status_code == 404
    assert (await browser.get(f"{base}/entries", params={"path": str(home / name)})).status_code == 409
    for path in ("", "relative", "/a\0b", "/" + "a" * 5000):
        assert (await browser.get(f"{base}/entries", params={"path": path})).status_code == 400


async def test_a_terminal_is_a_shell_and_counts_as_use(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    async with console.channel(browser, f"/api/microvms/{microvm_id}/shell") as channel:
        assert json.loads(await channel.websocket.recv())["type"] == "session_init"
        await channel.websocket.send(b"echo $((6*7))\n")
        heard = b""
        async with asyncio.timeout(limit_s(20)):
            while b"42" not in heard:
                part = await channel.websocket.recv()
                heard += part if isinstance(part, bytes) else part.encode()


async def test_a_terminal_ends_with_the_session(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    microvm_id = await launch(console, browser)
    async with console.channel(browser, f"/api/microvms/{microvm_id}/shell") as channel:
        await channel.websocket.recv()
        await browser.delete("/api/session")
        with pytest.raises(ConnectionClosed):
            await hear_to_the_end(channel)


async def test_no_shell_where_none_is_let_in(console: ConsolePlane, browser: httpx.AsyncClient) -> None:
    image = console.images.find(ARN.format(console.credential.account_id))
    assert image is not None
    microvm = console.add_microvm(image, MicrovmState.RUNNING)
    refused = await browser.get(f"/api/microvms/{microvm.id}/entries?path=/")
    assert refused.status_code == 400
    assert "SHELL_INGRESS" in refused.json()["message"]
