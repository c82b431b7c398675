"""Daytona's edge: sandboxes, their ends, who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from emberbox.model.caller import Caller
from emberbox.model.iam.access import AttachedPolicy, PrincipalKind
from emberbox.model.sandboxes import Sandbox
from support.daytona_world import daytona_key_of
from support.e2b_world import E2bPlane, api_key_of
from support.waiting import wait_for_async
from support.wire import REGION

Create = Callable[..., Awaitable[str]]


def caller_of(plane: E2bPlane) -> Caller:
    key = plane.credential
    return Caller(key.account_id, key.access_key_id, REGION, "request", "127.0.0.1", key)


def change(plane: E2bPlane, sandbox_id: str, **terms: Any) -> Sandbox:
    """Give a sandbox seconds where Daytona's API has minutes."""
    service, caller = plane.control.sandboxes.service, caller_of(plane)
    return service.set_terms(caller, sandbox_id, replace(service.get(caller, sandbox_id).terms, **terms))


async def wait_for_state(client: httpx.AsyncClient, sandbox_id: str, state: str) -> None:
    async with asyncio.timeout(60):
        while await state_of(client, sandbox_id) != state:  # noqa: ASYNC110 - the state is a server's
            await asyncio.sleep(0.05)


async def state_of(client: httpx.AsyncClient, sandbox_id: str) -> str:
    answer = await client.get(f"/api/sandbox/{sandbox_id}")
    return str(answer.json()["state"]) if answer.status_code == 200 else str(answer.status_code)


async def test_an_idle_sandbox_stops_and_one_in_use_does_not(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emberbox.control.sandboxes.ends._USE_NOTED_S", 0.1)
    monkeypatch.setattr("emberbox.edges.daytona.toolbox.entry.USE_NOTED_S", 0.3)
    sandbox = await create()
    change(plane, sandbox, timeout_s=2)

    asked = {"command": "sleep 5; echo woken"}
    answer = await client.post(f"/toolbox/{sandbox}/process/execute", json=asked)
    assert answer.json() == {"exitCode": 0, "result": "woken\n"}
    assert await state_of(client, sandbox) == "started"

    await wait_for_state(client, sandbox, "stopped")
    await wait_for_async("it is saved", lambda: sandbox in plane.disk.saved, 60)
    answer = await client.post(f"/toolbox/{sandbox}/process/execute", json={"command": "true"})
    assert answer.status_code == 409
    assert (await client.post(f"/api/sandbox/{sandbox}/start")).json()["state"] == "started"


async def test_a_stopped_sandbox_ends_after_its_interval_also_with_another_server(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    first, second = await create(autoDeleteInterval=1), await create(autoDeleteInterval=1)
    assert change(plane, first, deletes_after_s=1).terms.deletes_after_s == 1
    change(plane, second, deletes_after_s=3)
    for sandbox in (first, second):
        assert (await client.post(f"/api/sandbox/{sandbox}/stop")).json()["state"] == "stopped"
    plane.control.sandboxes.service._ends.cancel(second)
    plane.control.sandboxes.service.watch_timeouts()  # as a server does when it starts

    for sandbox in (first, second):
        await wait_for_state(client, sandbox, "404")


async def test_a_start_takes_the_end_of_the_stop_away(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create()
    change(plane, sandbox, deletes_after_s=2)
    await client.post(f"/api/sandbox/{sandbox}/stop")
    await client.post(f"/api/sandbox/{sandbox}/start")
    await asyncio.sleep(2.5)
    assert await state_of(client, sandbox) == "started"


async def test_an_ephemeral_sandbox_ends_when_it_is_idle(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create(autoDeleteInterval=0)
    assert (await client.get(f"/api/sandbox/{sandbox}")).json()["autoDeleteInterval"] == 0
    change(plane, sandbox, timeout_s=1)

    await wait_for_state(client, sandbox, "404")
    assert sandbox not in plane.disk.saved


async def test_a_name_is_one_sandboxes_at_a_time(client: httpx.AsyncClient, create: Create) -> None:
    asked = [client.post("/api/sandbox", json={"name": "mine"}) for _ in range(2)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) == [200, 409]

    assert (await client.delete("/api/sandbox/mine")).json()["state"] == "destroying"
    assert (await client.get("/api/sandbox/mine")).status_code == 404
    assert await create(name="mine")


async def test_an_id_is_meant_before_a_name(client: httpx.AsyncClient, create: Create) -> None:
    first = await create()
    await create(name=first)
    assert (await client.get(f"/api/sandbox/{first}")).json()["id"] == first


async def test_only_daytonas_form_of_a_key_opens_anything(plane: E2bPlane, client: httpx.AsyncClient) -> None:
    for given in ("", "Bearer", "Bearer dtn_00", f"Bearer {api_key_of(plane.credential)}", "Basic YTpi"):
        answer = await client.get("/api/sandbox", headers={"authorization": given})
        assert answer.status_code == 401, given
        assert answer.json() == {
            "statusCode": 401,
            "error": "Unauthorized",
            "message": "the API key counts for nothing here; `emberbox daytona-keys create` makes one",
            "code": "UNAUTHORIZED",
            "source": "DAYTONA_API",
        }


async def test_accounts_do_not_see_each_others_sandboxes(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create(name="mine")
    other = plane.access.accounts.create_account("other", None).first
    key = daytona_key_of(plane.access.find_credential(other.key.id, None))  # type: ignore[arg-type]
    headers = {"authorization": f"Bearer {key}"}

    assert (await client.get("/api/sandbox", headers=headers)).json() == {"items": [], "nextCursor": None}
    for method, path in (
        ("GET", "/api/sandbox/mine"),
        ("GET", f"/api/sandbox/{sandbox}"),
        ("DELETE", f"/api/sandbox/{sandbox}"),
        ("POST", f"/api/sandbox/{sandbox}/stop"),
        ("GET", f"/api/sandbox/{sandbox}/ports/80/preview-url"),
        ("GET", f"/toolbox/{sandbox}/files?path=/"),
        ("POST", f"/toolbox/{sandbox}/process/session"),
        ("POST", f"/toolbox/{sandbox}/files/bulk-upload"),
    ):
        answer = await client.request(method, path, headers=headers)
        assert answer.status_code == 404, path
    assert await state_of(client, sandbox) == "started"


async def test_what_policies_do_not_allow_is_refused_and_recorded(
    plane: E2bPlane, client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create()
    made = plane.access.accounts.create_key(plane.credential.account_id, "reader")
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"}]}'
    account, kind = plane.credential.account_id, PrincipalKind.USER
    plane.access.policies._store.put_policy(  # the row that `emberbox policies put` writes
        AttachedPolicy(account, kind, made.key.user_name, "reading", document, datetime.now(UTC))
    )
    plane.access._identities.reload()
    key = daytona_key_of(plane.access.find_credential(made.key.id, None))  # type: ignore[arg-type]
    headers = {"authorization": f"Bearer {key}"}

    assert (await client.get(f"/api/sandbox/{sandbox}", headers=headers)).status_code == 200
    for method, path, action in (
        ("DELETE", f"/api/sandbox/{sandbox}", "lambda:TerminateMicrovm"),
        ("POST", f"/toolbox/{sandbox}/process/execute", "lambda:CreateMicrovmShellAuthToken"),
        ("GET", f"/api/sandbox/{sandbox}/ports/80/preview-url", "lambda:CreateMicrovmAuthToken"),
    ):
        answer = await client.request(method, path, headers=headers)
        assert (answer.status_code, action in answer.json()["message"]) == (403, True), path
    await plane.access.trail.flush()
    trail = "".join(path.read_text() for path in (plane.directory / "audit").iterdir())
    assert all(f'"{operation}"' in trail for operation in ("DeleteSandbox", "ExecuteCommand", "CreateSandbox"))
    assert '"daytona"' in trail


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"autoStopInterval": -2}, "autoStopInterval"),
        ({"autoStopInterval": "15"}, "autoStopInterval must be a whole number"),
        ({"autoStopInterval": 43_201}, "30 days"),
        ({"autoStopInterval": 5, "autoPauseInterval": 5}, "exclude each other"),
        ({"labels": {"a": 1}}, "labels must be an object whose values are texts"),
        ({"env": ["A=b"]}, "env must be"),
        ({"name": "a b"}, "name must be of the form"),
        ({"user": "../root"}, "user must be of the form"),
        ({"public": "yes"}, "public must be true or false"),
        ({"snapshot": 5}, "snapshot must be a text"),
        ({"networkBlockAll": True}, "networkBlockAll: what a sandbox may reach"),
        ({"gpu": 1}, "gpu: there are no GPUs"),
        ({"buildInfo": {"dockerfileContent": "FROM standard\nRUN true\n"}}, "images are not built here"),
        ({"buildInfo": "FROM standard"}, "images are not built here"),
        ({"memory": 1 << 20}, "memory: the image has"),
    ],
)
async def test_what_cannot_be_done_is_refused_not_left_out(
    plane: E2bPlane, client: httpx.AsyncClient, body: dict[str, Any], told: str
) -> None:
    answer = await client.post("/api/sandbox", json=body)
    assert answer.status_code == 400
    assert told in answer.json()["message"]
    assert plane.disk.vmms == {}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=0", "limit must be 1 to 200"),
        ("limit=201", "limit must be 1 to 200"),
        ("labels=[]", "labels must be a JSON object"),
        ("cursor=none", "oken"),
        ("sort=cpu", "sort must be createdAt"),
        ("minCpu=2", "minCpu: sandboxes are found by"),
    ],
)
async def test_a_list_refuses_what_it_cannot_do(client: httpx.AsyncClient, query: str, told: str) -> None:
    answer = await client.get(f"/api/sandbox?{query}")
    assert answer.status_code == 400
    assert told in answer.json()["message"]


async def test_what_is_not_here_says_what_is(client: httpx.AsyncClient, create: Create) -> None:
    sandbox = await create()
    for method, path, status, told in (
        ("GET", "/api/snapshots", 501, "emberbox build"),
        ("POST", f"/api/sandbox/{sandbox}/archive", 501, "stopped is on the disk"),
        ("GET", f"/toolbox/{sandbox}/git/status", 501, "exec"),
        ("GET", "/api/nothing", 404, "docs/daytona.md"),
        ("PATCH", f"/api/sandbox/{sandbox}", 404, "docs/daytona.md"),
        ("POST", f"/api/sandbox/{sandbox}/autostop/soon", 400, "whole number"),
        ("POST", f"/api/sandbox/{sandbox}/public/maybe", 400, "true or false"),
        ("GET", f"/api/sandbox/{sandbox}/ports/65536/preview-url", 400, "port must be 1 to 65535"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, told in answer.json()["message"]) == (status, True), answer.text


async def test_where_the_toolbox_is_follows_the_address_that_was_asked(
    client: httpx.AsyncClient, create: Create
) -> None:
    sandbox = await create()
    headers = {"host": "boxes.example.com", "x-forwarded-proto": "https"}
    answer = await client.get(f"/api/sandbox/{sandbox}", headers=headers)
    assert answer.json()["toolboxProxyUrl"] == "https://boxes.example.com/toolbox"
