"""E2B's own SDK against the edge: sandboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
)

from emberbox.model.iam.access import PrincipalKind
from support.e2b_world import E2bPlane, api_key_of
from support.waiting import wait_for_async

Wait = Callable[..., Any]


async def test_a_sandbox_is_launched_from_the_template_that_is_named(e2b: E2bPlane, wait: Wait) -> None:
    image = e2b.add_template("python")
    for name in ("python", image.id, "team/python:latest", "python:1.0"):
        info = await wait((await wait(Sandbox.create, name)).get_info)
        assert (info.template_id, info.name, info.state) == (image.id, name, SandboxState.RUNNING)


async def test_a_template_that_is_not_there_is_named(e2b: E2bPlane, wait: Wait) -> None:
    with pytest.raises(SandboxException, match="404: template 'none' not found"):
        await wait(Sandbox.create, "none")


async def test_info_tells_times_sizes_and_metadata(e2b: E2bPlane, wait: Wait) -> None:
    before = datetime.now(UTC)
    sandbox = await wait(lambda: Sandbox.create(timeout=60, metadata={"user": "ä b&c"}))

    info = await wait(sandbox.get_info)

    assert info.metadata == {"user": "ä b&c"}
    assert (info.cpu_count, info.memory_mb) == (1, 512)
    assert before <= info.started_at <= datetime.now(UTC)
    assert timedelta(seconds=59) < info.end_at - before < timedelta(seconds=70)


async def test_set_timeout_moves_the_end_both_ways(sandbox: Sandbox, wait: Wait) -> None:
    for seconds in (600, 30):
        await wait(sandbox.set_timeout, seconds)
        left = (await wait(sandbox.get_info)).end_at - datetime.now(UTC)
        assert timedelta(seconds=seconds - 20) < left <= timedelta(seconds=seconds)


async def test_connect_never_shortens_a_timeout(sandbox: Sandbox, wait: Wait) -> None:
    end = (await wait(sandbox.get_info)).end_at

    again = await wait(lambda: Sandbox.connect(sandbox.sandbox_id, timeout=10))

    assert (await wait(again.get_info)).end_at == end
    assert (await wait(again.commands.run, "echo there")).stdout == "there\n"


async def test_a_sandbox_ends_with_its_timeout(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    await wait(sandbox.set_timeout, 0)

    await wait_for_async("the microVM ends", lambda: sandbox.sandbox_id not in e2b.disk.vmms)
    assert not await wait(sandbox.is_running)
    with pytest.raises(SandboxNotFoundException):
        await wait(sandbox.get_info)


async def test_kill_says_whether_there_was_a_sandbox(sandbox: Sandbox, wait: Wait) -> None:
    assert await wait(sandbox.is_running)
    assert await wait(sandbox.kill)
    assert not await wait(sandbox.kill)
    assert not await wait(sandbox.is_running)


async def test_lists_are_in_pages_and_filtered_by_metadata(e2b: E2bPlane, wait: Wait) -> None:
    ids = []
    for number in range(3):
        metadata = {"owner": "me & you", "number": str(number)}
        ids.append((await wait(lambda given=metadata: Sandbox.create(metadata=given))).sandbox_id)
    await wait(Sandbox.create)

    def pages(order: Any) -> list[list[str]]:
        paginator = Sandbox.list(SandboxQuery(metadata={"owner": "me & you"}), limit=2, order=order)
        found = []
        while paginator.has_next:
            found.append([item.sandbox_id for item in paginator.next_items()])
        return found

    assert await wait(pages, None) == [[ids[2], ids[1]], [ids[0]]]
    assert await wait(pages, "asc") == [[ids[0], ids[1]], [ids[2]]]
    paused = Sandbox.list(SandboxQuery(state=[SandboxState.PAUSED]))
    assert await wait(paused.next_items) == []


async def test_a_repeated_request_makes_one_sandbox(e2b: E2bPlane, wait: Wait) -> None:
    first, second = [await wait(lambda: Sandbox.create(idempotency_key="once")) for _ in range(2)]

    assert first.sandbox_id == second.sandbox_id


@pytest.mark.parametrize("key", ["e2b_00", "nothing", ""])
async def test_a_key_that_is_none_is_refused(e2b: E2bPlane, wait: Wait, key: str) -> None:
    with pytest.raises(AuthenticationException):
        await wait(lambda: Sandbox.create(api_key=key or "e2b_"))


async def test_accounts_do_not_see_each_others_sandboxes(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    other = e2b.access.accounts.create_account("other", None).first
    key = api_key_of(e2b.access.find_credential(other.key.id, None))  # type: ignore[arg-type]

    with pytest.raises(SandboxNotFoundException):
        await wait(lambda: Sandbox.connect(sandbox.sandbox_id, api_key=key))
    assert await wait(Sandbox.list(api_key=key).next_items) == []


async def test_what_policies_do_not_allow_is_refused_and_recorded(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    made = e2b.access.accounts.create_key(e2b.credential.account_id, "reader")
    document = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"}]}'
    e2b.access.policies._store.put_policy(  # the row that `emberbox policies put` writes
        _policy(e2b, made.key.user_name, document)
    )
    e2b.access._identities.reload()
    key = api_key_of(e2b.access.find_credential(made.key.id, None))  # type: ignore[arg-type]

    with pytest.raises(SandboxException, match=r"403: .*lambda:TerminateMicrovm"):
        await wait(lambda: Sandbox.kill(sandbox.sandbox_id, api_key=key))
    await e2b.access.trail.flush()
    trail = "".join(path.read_text() for path in (e2b.directory / "audit").iterdir())
    assert '"KillSandbox"' in trail
    assert '"CreateSandbox"' in trail


def _policy(e2b: E2bPlane, user: str, document: str) -> Any:
    from emberbox.model.iam.access import AttachedPolicy

    return AttachedPolicy(e2b.credential.account_id, PrincipalKind.USER, user, "reading", document, datetime.now(UTC))


@pytest.mark.parametrize(
    "asked",
    [{"allow_internet_access": False}, {"network": {"allow_out": ["10.0.0.0/8"]}}, {"timeout": 86_401}],
)
async def test_what_cannot_be_done_is_refused_not_left_out(e2b: E2bPlane, wait: Wait, asked: dict[str, Any]) -> None:
    with pytest.raises(SandboxException, match="400: "):
        await wait(lambda: Sandbox.create(**asked))
    assert e2b.disk.vmms == {}


async def test_a_launch_that_fails_says_why(e2b: E2bPlane, wait: Wait) -> None:
    e2b.add_image("broken")  # its snapshot is missing

    with pytest.raises(SandboxException, match="500: The sandbox could not be started: "):
        await wait(Sandbox.create, "broken")


async def test_the_asynchronous_sdk_does_the_same(e2b: E2bPlane) -> None:
    sandbox = await AsyncSandbox.create(envs={"FROM": "sandbox"})

    assert (await sandbox.commands.run("echo $FROM")).stdout == "sandbox\n"
    assert await sandbox.kill()
    await asyncio.sleep(0)
