"""The Agents SDK's own runner, capabilities and sessions over a microVM, with a model that follows a script."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import RunConfig, Runner, RunResult, RunState, function_tool, set_tracing_disabled
from agents.sandbox import Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.capabilities import Filesystem, Shell
from agents.sandbox.entries import File
from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    InvalidManifestPathError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
)
from agents.sandbox.session import SandboxSession
from agents.sandbox.snapshot import LocalSnapshotSpec, NoopSnapshotSpec
from agents.testing import ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseCustomToolCall

from emberbox_sdk import AsyncSandbox, State
from emberbox_sdk.integrations.openai_agents import EmberboxSandboxClient, EmberboxSandboxClientOptions

set_tracing_disabled(True)

MANIFEST = Manifest(entries={"task.txt": File(content=b"from the manifest\n")})
PATCH = """\
*** Begin Patch
*** Add File: new/made.py
+print("made")
*** Update File: task.txt
@@
-from the manifest
+from the patch
*** End Patch
"""
TAR_THAT_SAW_CHANGES = '#!/bin/sh\\n/usr/bin/tar "$@"; exit 1\\n'
NEVER_LEFT = NoopSnapshotSpec()


def call(name: str, **arguments: Any) -> list[Any]:
    """Return a turn of the model's that calls one tool."""
    return [function_call(name, arguments, call_id=f"call-{name}-{abs(hash(str(arguments)))}")]


def patch(text: str) -> list[Any]:
    return [ResponseCustomToolCall(type="custom_tool_call", call_id="call-patch", name="apply_patch", input=text)]


def agent(*turns: list[Any], **more: Any) -> SandboxAgent[None]:
    model = ScriptedModel([*turns, [assistant_message("done")]])
    capabilities = [Shell(), Filesystem()]
    return SandboxAgent(
        name="worker", model=model, instructions="work", default_manifest=MANIFEST, capabilities=capabilities, **more
    )


def outputs(result: RunResult) -> list[str]:
    """Return what tools answered."""
    return [str(item.output) for item in result.new_items if item.type == "tool_call_output_item"]


def do(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 900))


@asynccontextmanager
async def session_of(**options: Any) -> AsyncIterator[tuple[EmberboxSandboxClient, SandboxSession]]:
    client = EmberboxSandboxClient()
    session = await client.create(manifest=MANIFEST, options=EmberboxSandboxClientOptions(**options))
    try:
        await session.start()
        yield client, session
    finally:
        await client.end(session)


async def ids() -> dict[str, State]:
    return {sandbox.id: sandbox.state for sandbox in await AsyncSandbox.list()}


def test_an_agent_works_with_all_of_its_tools() -> None:
    async def run() -> None:
        before = await ids()
        worker = agent(
            call("exec_command", cmd="cat task.txt; pwd; echo err >&2; exit 3"),
            patch(PATCH),
            call("exec_command", cmd="cat task.txt; python3 new/made.py; sleep 12; echo late", yield_time_ms=30000),
        )
        sandbox = SandboxRunConfig(client=EmberboxSandboxClient(), snapshot=NEVER_LEFT)
        result = await Runner.run(worker, "go", run_config=RunConfig(sandbox=sandbox))
        assert result.final_output == "done"
        first, patched, second = outputs(result)
        assert "exited with code 3" in first
        assert "from the manifest\n/workspace\n" in first
        assert "err" in first
        assert "made.py" in patched
        assert "from the patch\nmade\nlate\n" in second
        assert await ids() == before

    do(run())


def test_a_run_that_waits_for_approval_goes_on_in_the_same_microvm() -> None:
    @function_tool(needs_approval=True)
    def ask() -> str:
        return "asked"

    def worker(*turns: list[Any]) -> SandboxAgent[None]:
        return agent(*turns, tools=[ask])

    async def run() -> None:
        before = await ids()
        client = EmberboxSandboxClient()
        options = EmberboxSandboxClientOptions(pause_on_exit=True)
        sandbox = SandboxRunConfig(client=client, options=options, snapshot=NEVER_LEFT)
        start = "echo from before > kept; setsid sleep 7531 </dev/null >/dev/null 2>&1 &"
        first = await Runner.run(
            worker(call("exec_command", cmd=start), call("ask")), "go", run_config=RunConfig(sandbox=sandbox)
        )
        assert len(first.interruptions) == 1
        ((paused, state),) = (await ids()).items() - before.items()
        assert state is State.SUSPENDED

        written = json.dumps(first.to_state().to_json())
        look = "cat kept; grep -q '[7]531' /proc/[0-9]*/cmdline && echo runs"
        again = worker(call("exec_command", cmd=look))
        resumed = await RunState.from_json(again, json.loads(written))
        resumed.approve(resumed.get_interruptions()[0])
        second = await Runner.run(again, resumed, run_config=RunConfig(sandbox=sandbox))
        assert "from before\nruns\n" in outputs(second)[-1]
        assert (await ids())[paused] is State.SUSPENDED
        async with await AsyncSandbox.connect(paused) as found:
            await found.terminate()

    do(run())


def test_a_terminal_goes_on_between_two_calls() -> None:
    async def run() -> None:
        async with session_of() as (_, session):
            begun = await session.pty_exec_start("python3 -i -q", tty=True, yield_time_s=5)
            assert begun.process_id is not None
            typed = await session.pty_write_stdin(session_id=begun.process_id, chars="6*7\n", yield_time_s=5)
            assert b"\n42\r\n" in typed.output
            plain = await session.pty_exec_start("trap '' HUP; exec sleep 4321", yield_time_s=0.3)
            assert plain.process_id is not None
            with pytest.raises(RuntimeError, match="stdin is not available"):
                await session.pty_write_stdin(session_id=plain.process_id, chars="x")
            ended = await session.pty_write_stdin(session_id=begun.process_id, chars="exit(5)\n", yield_time_s=20)
            assert (ended.process_id, ended.exit_code) == (None, 5)
            await session.pty_terminate_all()
            assert (await session.exec("grep -q '[4]321' /proc/[0-9]*/cmdline")).exit_code != 0
            late = await session.pty_exec_start("sleep 8642", timeout=1, yield_time_s=20)
            assert late.exit_code == 255
            assert b"longer than 1 s" in late.output

    do(run())


def test_what_nobody_reads_makes_a_command_wait() -> None:
    """A command that writes without end does not fill our memory, and is alive afterwards."""

    async def run() -> None:
        async with session_of() as (_, session):
            begun = await session.pty_exec_start("yes", yield_time_s=0.3)
            inner: Any = session._inner
            (process,) = inner._processes._running.values()
            before, now = 0, 1
            while now < 10 << 20 or now != before:
                await asyncio.sleep(2)
                before, now = now, sum(map(len, process.chunks))
            assert now < 12 << 20
            assert begun.process_id is not None
            more = await session.pty_write_stdin(session_id=begun.process_id, chars="", yield_time_s=5)
            assert more.exit_code is None
            assert len(more.output) > 10 << 20

    do(run())


def test_commands_have_exit_codes_bytes_users_and_times() -> None:
    async def run() -> None:
        async with session_of(env={"A": "b"}) as (_, session):
            ran = await session.exec("echo $A; pwd; printf '\\377\\000'; echo err >&2; exit 3")
            assert (ran.stdout, ran.stderr, ran.exit_code) == (b"b\n/workspace\n\xff\x00", b"err\n", 3)
            assert (await session.exec("id -un", user="www-data")).stdout == b"www-data\n"
            with pytest.raises(ExecTimeoutError):
                await session.exec("exec sleep 4321", timeout=2)
            assert (await session.exec("grep -q '[4]321' /proc/[0-9]*/cmdline")).exit_code != 0
            much = await session.exec("head -c 12000000 /dev/zero; exit 4")
            assert (len(much.stdout), much.exit_code) == (10 << 20, 4)
            assert b"was cut after" in much.stderr

    do(run())


def test_files_are_bytes_and_failures_are_the_frameworks() -> None:
    async def run() -> None:
        async with session_of() as (_, session):
            data = bytes(range(256)) * 5000
            await session.write(Path("new/a.bin"), io.BytesIO(data))
            assert (await session.read(Path("new/a.bin"))).read() == data
            assert await session.read_bounded(Path("new/a.bin"), max_bytes=1000) == data[:1000]
            assert [entry.path for entry in await session.ls("new")] == ["/workspace/new/a.bin"]
            with pytest.raises(WorkspaceReadNotFoundError):
                await session.read(Path("none"))
            with pytest.raises(WorkspaceReadNotFoundError):
                await session.read_bounded(Path("none"), max_bytes=10)
            with pytest.raises(WorkspaceArchiveReadError):
                await session.read(Path("new"))
            with pytest.raises(WorkspaceArchiveWriteError):
                await session.write(Path("new"), io.BytesIO(b"x"))
            with pytest.raises(WorkspaceArchiveWriteError):
                await session.write(Path("new/a.bin"), io.BytesIO(b"x"), user="www-data")
            await session.exec("ln -s /etc out; chmod 750 new/a.bin")
            with pytest.raises(InvalidManifestPathError):
                await session.read(Path("out/passwd"))
            await session.write(Path("new/a.bin"), io.BytesIO(b"short"))
            assert (await session.exec("stat -c '%a %s' new/a.bin")).stdout == b"750 5\n"

    do(run())


def test_a_port_is_reached_with_its_headers() -> None:
    async def run() -> None:
        async with session_of(exposed_ports=(8000,)) as (client, session):
            await session.exec("setsid python3 -m http.server 8000 </dev/null >/dev/null 2>&1 &")
            port = await client.port(session, 8000)
            await port.wait(300)
            assert (await port.get("/task.txt")).text == "from the manifest\n"
            endpoint = await session.resolve_exposed_port(8000)
            assert endpoint.url_for("http") == port.url
            with pytest.raises(ExposedPortUnavailableError):
                await session.resolve_exposed_port(9000)

    do(run())


def test_a_session_is_found_again_by_what_was_written_down(tmp_path: Path) -> None:
    async def run() -> None:
        client = EmberboxSandboxClient()
        options = EmberboxSandboxClientOptions(pause_on_exit=True, env={"A": "b"})
        session = await client.create(
            manifest=MANIFEST, options=options, snapshot=LocalSnapshotSpec(base_path=tmp_path)
        )
        async with session:
            await session.exec("echo from before > kept; setsid sleep 7531 </dev/null >/dev/null 2>&1 &")
            await session.exec(f"printf '{TAR_THAT_SAW_CHANGES}' > /usr/local/bin/tar; chmod 755 /usr/local/bin/tar")
        await client.delete(session)  # as a run does at its end: the microVM is paused, and stays
        written = json.dumps(client.serialize_session_state(session.state))

        found = await client.resume(client.deserialize_session_state(json.loads(written)))
        look = "cat kept; echo $A; grep -q '[7]531' /proc/[0-9]*/cmdline && echo runs"
        async with found:
            assert (await found.exec(look)).stdout == b"from before\nb\nruns\n"
        with pytest.raises(ExecTransportError):
            await found.exec("true")
        await client.end(found)

        other = await client.resume(client.deserialize_session_state(json.loads(written)))
        await other.start()
        assert (await other.exec(look)).stdout == b"from before\nb\n"  # the files, from the snapshot
        assert (await other.exec("cat task.txt")).stdout == b"from the manifest\n"
        await client.end(other)
        await client.end(other)

    do(run())


def test_what_was_suspended_in_between_goes_on_with_what_the_agent_made() -> None:
    async def run() -> None:
        async with session_of() as (_, session):
            await session.exec("echo the agent > task.txt")
            inner: Any = session._inner
            await inner.sandbox.suspend()
            assert not await session.running()
            await session.start()
            assert (await session.exec("cat task.txt")).stdout == b"the agent\n"

    do(run())


def test_a_file_without_end_is_not_read_into_our_memory_or_disk() -> None:
    async def run() -> None:
        async with session_of() as (_, session):
            await session.exec("truncate -s 300M sparse")
            with pytest.raises(WorkspaceArchiveReadError):
                await session.read(Path("sparse"))
            assert await session.read_bounded(Path("sparse"), max_bytes=10) == bytes(10)

    do(run())


def test_the_end_of_a_session_is_the_end_of_its_microvm() -> None:
    async def run() -> None:
        before = await ids()
        client = EmberboxSandboxClient()
        async with await client.create(manifest=MANIFEST) as session:
            assert await session.running()
        assert not await session.running()
        assert await ids() == before
        await client.delete(session)
        another = await client.create(manifest=MANIFEST)
        await client.delete(another)  # which was not even started
        assert await ids() == before

    do(run())
