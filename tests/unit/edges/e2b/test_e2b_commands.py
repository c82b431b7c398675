"""E2B's own SDK against the edge: commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    Sandbox,
    SandboxException,
    TimeoutException,
)

from support.e2b_world import E2bPlane

Wait = Callable[..., Any]


async def test_a_command_has_output_and_error_output(sandbox: Sandbox, wait: Wait) -> None:
    done = await wait(sandbox.commands.run, "echo out; echo err >&2")

    assert (done.stdout, done.stderr, done.exit_code, done.error) == ("out\n", "err\n", 0, None)


async def test_a_command_that_fails_says_so(sandbox: Sandbox, wait: Wait) -> None:
    with pytest.raises(CommandExitException) as failed:
        await wait(sandbox.commands.run, "echo no >&2; exit 3")
    assert (failed.value.exit_code, failed.value.stderr, failed.value.error) == (3, "no\n", "exit status 3")


async def test_output_comes_as_it_is_written(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("echo one; read x; echo $x", background=True, stdin=True))
    pieces = iter(handle)

    assert (await wait(next, pieces))[0] == "one\n"
    await wait(handle.send_stdin, "two\n")
    assert (await wait(next, pieces))[0] == "two\n"


async def test_much_output_arrives_whole(sandbox: Sandbox, wait: Wait) -> None:
    done = await wait(sandbox.commands.run, "seq 1 200000")

    assert done.stdout == "".join(f"{number}\n" for number in range(1, 200_001))


async def test_directory_and_variables_are_those_that_are_asked_for(e2b: E2bPlane, wait: Wait) -> None:
    sandbox = await wait(lambda: Sandbox.create(envs={"A": "sandbox", "B": "sandbox"}))
    home = e2b.local.home(sandbox.sandbox_id)
    (home / "deep").mkdir()

    done = await wait(lambda: sandbox.commands.run("pwd; echo $A $B", cwd="deep", envs={"B": "command"}))

    assert done.stdout == f"{home}/deep\nsandbox command\n"
    assert (await wait(lambda: sandbox.commands.run("pwd", cwd="/"))).stdout == "/\n"
    with pytest.raises(InvalidArgumentException, match="nowhere"):
        await wait(lambda: sandbox.commands.run("pwd", cwd="/nowhere"))


async def test_a_user_that_is_not_there_is_refused(sandbox: Sandbox, wait: Wait) -> None:
    with pytest.raises(AuthenticationException, match="no such user"):
        await wait(lambda: sandbox.commands.run("true", user="nobody-knows"))


async def test_a_background_command_takes_input_until_it_is_closed(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("cat; echo end", background=True, stdin=True))
    await wait(sandbox.commands.send_stdin, handle.pid, "one\n")
    await wait(handle.send_stdin, "two\n")
    await wait(sandbox.commands.close_stdin, handle.pid)

    assert (await wait(handle.wait)).stdout == "one\ntwo\nend\n"
    with pytest.raises(NotFoundException):
        await wait(sandbox.commands.send_stdin, handle.pid, "late")


async def test_input_is_streamed(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("head -n 2", background=True, stdin=True))
    await wait(lambda: sandbox.commands.stream_input(handle.pid, ["a\n", b"b\n"]))

    assert (await wait(handle.wait)).stdout == "a\nb\n"


async def test_a_command_without_input_sees_its_end(sandbox: Sandbox, wait: Wait) -> None:
    assert (await wait(sandbox.commands.run, "cat")).stdout == ""
    handle = await wait(lambda: sandbox.commands.run("sleep 60", background=True))
    with pytest.raises(SandboxException, match="stdin is not enabled"):
        await wait(handle.send_stdin, "x")
    assert await wait(handle.kill)


async def test_commands_are_listed_by_the_numbers_that_they_have(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("echo $$; sleep 60", background=True, envs={"X": "y"}))

    listed = await wait(sandbox.commands.list)

    assert [(item.pid, item.cmd, item.args, item.envs) for item in listed] == [
        (handle.pid, "/bin/bash", ["-l", "-c", "echo $$; sleep 60"], {"X": "y"})
    ]
    assert await wait(lambda: sandbox.commands.run(f"kill -0 {handle.pid}"))
    assert await wait(sandbox.commands.kill, handle.pid)


async def test_a_killed_command_tells_the_signal(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("sleep 60", background=True))

    assert await wait(handle.kill)
    with pytest.raises(CommandExitException) as ended:
        await wait(handle.wait)
    assert (ended.value.exit_code, ended.value.error) == (-1, "signal: killed")
    assert not await wait(sandbox.commands.kill, handle.pid)


async def test_a_command_goes_on_when_its_client_leaves_and_another_hears_it(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("read x; echo got $x", background=True, stdin=True))
    await wait(handle.disconnect)
    again = await wait(sandbox.commands.connect, handle.pid)
    await wait(sandbox.commands.send_stdin, handle.pid, "it\n")

    assert (await wait(again.wait)).stdout == "got it\n"
    with pytest.raises(NotFoundException):
        await wait(sandbox.commands.connect, handle.pid)


async def test_several_hear_one_command(sandbox: Sandbox, wait: Wait) -> None:
    handle = await wait(lambda: sandbox.commands.run("read x; seq 1 5000", background=True, stdin=True))
    others = [await wait(sandbox.commands.connect, handle.pid) for _ in range(2)]
    await wait(handle.send_stdin, "go\n")
    heard: list[str] = []
    threads = [threading.Thread(target=lambda one=one: heard.append(one.wait().stdout)) for one in (handle, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await wait(thread.join, 20)

    assert heard == ["".join(f"{number}\n" for number in range(1, 5001))] * 3


async def test_a_command_ends_with_its_timeout(sandbox: Sandbox, wait: Wait) -> None:
    with pytest.raises(TimeoutException):
        await wait(lambda: sandbox.commands.run("sleep 600", timeout=0.5))

    for _ in range(600):
        if not await wait(sandbox.commands.list):
            return
        await asyncio.sleep(0.05)
    pytest.fail("the command outlived its timeout")


async def test_without_the_access_token_nothing_is_done(sandbox: Sandbox, e2b: E2bPlane) -> None:
    import httpx

    headers = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    async with httpx.AsyncClient(base_url=e2b.url, headers=headers) as client:
        for token in ({}, {"X-Access-Token": "0" * 64}):
            answer = await client.post("/process.Process/List", json={}, headers=token)
            assert answer.status_code == 401
        assert (await client.get("/health")).status_code == 204
        named = await client.get("/health", headers={"Host": f"49983-{sandbox.sandbox_id}.example.org"})
        assert named.status_code == 204
