"""E2B's own SDK against the edge: pauses, timeouts that pause, forks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from e2b import (
    CommandExitException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxState,
    TimeoutException,
)

from emberbox.control.microvms.timers import Timers
from emberbox.control.sandboxes.commands import CreateSandbox
from emberbox.control.sandboxes.service import SandboxService
from emberbox.model.sandboxes import SandboxTerms
from emberbox.model.states import MicrovmState
from support.e2b_world import E2bPlane
from support.waiting import wait_for_async

Wait = Callable[..., Any]


async def test_a_paused_sandbox_is_resumed_by_connect_alone(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    await wait(sandbox.pause)

    assert (await wait(sandbox.get_info)).state == SandboxState.PAUSED
    assert sandbox.sandbox_id in e2b.disk.saved
    assert not await wait(sandbox.is_running)
    with pytest.raises(TimeoutException):
        await wait(sandbox.commands.run, "true")
    with pytest.raises(SandboxNotFoundException):
        await wait(sandbox.set_timeout, 60)

    again = await wait(lambda: Sandbox.connect(sandbox.sandbox_id, timeout=60))
    assert (await wait(again.get_info)).state == SandboxState.RUNNING
    assert (await wait(again.commands.run, "echo back")).stdout == "back\n"


async def test_a_second_pause_changes_nothing(sandbox: Sandbox, wait: Wait) -> None:
    await wait(sandbox.pause)
    await wait(sandbox.pause)
    assert (await wait(sandbox.get_info)).state == SandboxState.PAUSED
    assert await wait(sandbox.kill)


async def test_a_pause_that_fails_leaves_the_sandbox_running(
    sandbox: Sandbox, e2b: E2bPlane, wait: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def step(name: str) -> None:
        if name == "suspend":
            raise OSError("no room")

    monkeypatch.setattr(e2b.local, "_step", step)
    with pytest.raises(SandboxException):
        await wait(sandbox.pause)
    assert (await wait(sandbox.get_info)).state == SandboxState.RUNNING
    assert await wait(sandbox.is_running)


async def test_processes_outlive_a_pause_unheard(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("sleep 600", background=True))
    await wait(sandbox.pause)
    with pytest.raises(TimeoutException):
        await wait(handle.wait)
    again = await wait(Sandbox.connect, sandbox.sandbox_id)

    assert [item.pid for item in await wait(again.commands.list)] == [handle.pid]
    with pytest.raises(SandboxException, match="let it write to a file"):
        await wait(again.commands.connect, handle.pid)
    assert await wait(again.commands.kill, handle.pid)
    assert await wait(again.commands.list) == []


async def test_a_watch_tells_after_a_pause_what_has_happened_since(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    handle = await wait(sandbox.files.watch_dir, ".")
    await wait(sandbox.pause)
    await wait(Sandbox.connect, sandbox.sandbox_id)
    (e2b.local.home(sandbox.sandbox_id) / "new").touch()
    for _ in range(200):
        if any(event.name == "new" for event in await wait(handle.get_new_events)):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the event did not come")


async def test_a_timeout_pauses_where_that_was_asked_for(e2b: E2bPlane, wait: Wait) -> None:
    sandbox = await wait(lambda: Sandbox.create(lifecycle={"on_timeout": "pause"}))
    await wait(sandbox.set_timeout, 0)
    await wait_for_async("it is saved", lambda: sandbox.sandbox_id in e2b.disk.saved)

    info = await wait(sandbox.get_info)
    assert info.state == SandboxState.PAUSED
    assert info.lifecycle == {"on_timeout": "pause", "auto_resume": False}
    with pytest.raises(TimeoutException):
        await wait(sandbox.commands.run, "true")


async def test_a_request_resumes_where_that_was_asked_for(e2b: E2bPlane, wait: Wait) -> None:
    sandbox = await wait(lambda: Sandbox.create(lifecycle={"on_timeout": "pause", "auto_resume": True}))
    await wait(sandbox.pause)

    assert (await wait(sandbox.commands.run, "echo awake")).stdout == "awake\n"
    assert (await wait(sandbox.get_info)).state == SandboxState.RUNNING


async def test_what_the_server_has_suspended_goes_on_with_the_next_request(
    sandbox: Sandbox, e2b: E2bPlane, wait: Wait
) -> None:
    runner = e2b.runners.find(sandbox.sandbox_id)
    assert runner is not None
    await runner.suspend()

    assert (await wait(sandbox.get_info)).state == SandboxState.RUNNING
    assert (await wait(sandbox.commands.run, "echo on")).stdout == "on\n"


async def test_timeouts_of_an_earlier_server_are_kept(e2b: E2bPlane, sandbox: Sandbox) -> None:
    control, timers = e2b.control, Timers()
    later = SandboxService(
        store=e2b._stores.sandboxes, templates=control.sandboxes.templates, microvms=control.microvms,
        forks=control.forks, runners=control.runners, timers=timers, page_tokens=control.page_tokens,
    )  # fmt: skip
    later.watch_timeouts()
    assert len(timers) == 1
    timers.close()
    e2b._stores.sandboxes.set_end(sandbox.sandbox_id, sandbox_end(e2b, sandbox.sandbox_id), 1)
    later.watch_timeouts()
    await wait_for_async("it ends", lambda: sandbox.sandbox_id not in e2b.disk.vmms)
    timers.close()


def sandbox_end(e2b: E2bPlane, sandbox_id: str) -> Any:
    found = e2b._stores.sandboxes.find(sandbox_id)
    assert found is not None
    return found.started_at


async def test_a_fork_goes_on_from_the_same_instant(e2b: E2bPlane, wait: Wait) -> None:
    sandbox = await wait(lambda: Sandbox.create(metadata={"a": "b"}))
    first, second = await wait(lambda: sandbox.fork(count=2))

    assert len({sandbox.sandbox_id, first.sandbox_id, second.sandbox_id}) == 3
    assert (await wait(first.get_info)).metadata == {"a": "b"}
    assert (await wait(second.commands.run, "echo fork")).stdout == "fork\n"


async def test_rows_go_with_their_microvms(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    await wait(sandbox.kill)
    await wait_for_async("it ends", lambda: sandbox.sandbox_id not in e2b.disk.vmms)
    store = e2b._stores.sandboxes
    e2b.control.sandboxes.service.forget_gone()
    assert store.find(sandbox.sandbox_id) is not None
    await wait_for_async("its row says so", lambda: _state(e2b, sandbox.sandbox_id) is MicrovmState.TERMINATED)
    e2b.control.microvms.forget_terminated(-1)
    e2b.control.sandboxes.service.forget_gone()
    await e2b.edge.forget_ended()
    with e2b.database.reading() as connection:
        assert connection.exec_driver_sql("select count(*) from sandboxes").scalar_one() == 0


def _state(e2b: E2bPlane, sandbox_id: str) -> MicrovmState:
    found = e2b.microvms.find(sandbox_id)
    assert found is not None
    return found.state


async def test_a_microvm_that_cannot_be_a_sandbox_does_not_stay(e2b: E2bPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    from emberbox.model.errors import HostError

    def fail(*_: Any) -> bool:
        raise HostError("the disk is full")

    monkeypatch.setattr(e2b._stores.sandboxes, "add", fail)
    caller = _caller(e2b)
    with pytest.raises(HostError):
        await e2b.control.sandboxes.service.create(caller, CreateSandbox(SandboxTerms("standard")))
    await wait_for_async("it ends", lambda: e2b.disk.vmms == {} and e2b.runners.list_all() == [])


def _caller(e2b: E2bPlane) -> Any:
    from emberbox.model.caller import Caller

    return Caller(e2b.credential.account_id, e2b.credential.access_key_id, e2b.region, "request", "")


async def test_the_exit_of_a_killed_process_is_no_success(sandbox: Sandbox, wait: Wait) -> None:
    with pytest.raises(CommandExitException):
        await wait(sandbox.commands.run, "kill -9 $$")


async def test_a_pause_that_a_killed_server_left_undone_is_none(sandbox: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    e2b._stores.sandboxes.set_paused(sandbox.sandbox_id, paused=True)
    e2b.control.sandboxes.service.watch_timeouts()

    assert (await wait(sandbox.get_info)).state == SandboxState.RUNNING
    assert await wait(sandbox.is_running)
