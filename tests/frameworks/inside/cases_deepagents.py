"""deepagents' own agent, tools and middleware over a microVM, with a model that says what was written for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from deepagents import create_deep_agent
from deepagents.backends.protocol import SandboxBackendProtocol
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage

from emberbox_sdk import Sandbox
from emberbox_sdk.integrations.deepagents import EmberboxBackend

PROGRAM = "import sys\nprint('sum', sum(map(int, sys.argv[1:])))\n"


class Scripted(GenericFakeChatModel):
    """Says one message after the other, whatever tools there are."""

    def bind_tools(self, tools: Any, **more: Any) -> Scripted:
        return self


def script(*calls: tuple[str, dict[str, Any]]) -> Scripted:
    """Return a model that calls tools, one each turn, and ends."""
    messages = [
        AIMessage(content="", tool_calls=[{"name": name, "args": given, "id": f"call-{number}"}])
        for number, (name, given) in enumerate(calls)
    ]
    return Scripted(messages=iter([*messages, AIMessage(content="done")]))


def ask(model: Scripted, backend: EmberboxBackend, *, waits: bool = True) -> list[ToolMessage]:
    """Run an agent to its end; return what its tools answered."""
    agent = create_deep_agent(model, backend=backend)
    given: Any = {"messages": [("user", "go")]}
    found = agent.invoke(given) if waits else asyncio.run(agent.ainvoke(given))
    assert found["messages"][-1].content == "done"
    return [message for message in found["messages"] if isinstance(message, ToolMessage)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.create(timeout_s=600) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def backend(sandbox: Sandbox) -> EmberboxBackend:
    return EmberboxBackend(sandbox)


@pytest.mark.parametrize("waits", [True, False])
def test_an_agent_works_with_all_of_its_tools(backend: EmberboxBackend, waits: bool) -> None:
    place = f"/work/{waits}"
    model = script(
        ("write_file", {"file_path": f"{place}/sum.py", "content": PROGRAM}),
        ("execute", {"command": f"cd {place} && python3 sum.py 1 2 39 && echo err >&2; exit 3"}),
        ("edit_file", {"file_path": f"{place}/sum.py", "old_string": "'sum'", "new_string": "'total'"}),
        ("read_file", {"file_path": f"{place}/sum.py"}),
        ("ls", {"path": place}),
        ("grep", {"pattern": "total", "path": place, "output_mode": "content"}),
        ("glob", {"pattern": "*.py", "path": place}),
        ("read_file", {"file_path": f"{place}/none"}),
        ("execute", {"command": "echo begun; sleep 4321", "timeout": 3}),
    )
    wrote, ran, edited, read, listed, found, globbed, missing, late = ask(model, backend, waits=waits)
    assert [message.status for message in (wrote, ran, edited, read)] == ["success"] * 4
    assert "sum 42\nerr" in ran.text
    assert ran.artifact["exit_code"] == 3
    assert "print('total'" in read.text
    assert f"{place}/sum.py" in listed.text
    assert "total" in found.text
    assert f"{place}/sum.py" in globbed.text
    assert "file_not_found" in missing.text
    assert "begun" in late.text
    assert late.artifact["exit_code"] == 124
    assert backend.execute("grep -q '[4]321' /proc/[0-9]*/cmdline").exit_code != 0


def test_an_agent_goes_on_after_a_suspend(sandbox: Sandbox, backend: EmberboxBackend) -> None:
    before = script(
        ("write_file", {"file_path": "/work/kept.txt", "content": "from before"}),
        ("execute", {"command": "setsid sleep 7531 </dev/null >/dev/null 2>&1 &"}),
    )
    ask(before, backend)
    sandbox.suspend()
    found = Sandbox.connect(backend.id)  # as another process does, which knows the id alone
    found.resume()
    after = script(
        ("read_file", {"file_path": "/work/kept.txt"}),
        ("execute", {"command": "grep -l '[7]531' /proc/[0-9]*/cmdline"}),
    )
    read, ran = ask(after, EmberboxBackend(found))
    assert "from before" in read.text
    assert ran.artifact["exit_code"] == 0
    found.close()


def test_a_fork_is_a_backend_of_its_own(sandbox: Sandbox, backend: EmberboxBackend) -> None:
    backend.write("/work/shared.txt", "both")
    (fork,) = sandbox.fork()
    with fork:
        other = EmberboxBackend(fork)
        assert other.id != backend.id
        ask(script(("write_file", {"file_path": "/work/own.txt", "content": "the fork's"})), other)
        assert [response.content for response in other.download_files(["/work/shared.txt"])] == [b"both"]
    assert backend.download_files(["/work/own.txt"])[0].error == "file_not_found"


def test_files_are_bytes_and_failures_have_the_frameworks_names(backend: EmberboxBackend) -> None:
    data = bytes(range(256)) * 5000
    uploads = [
        ("/work/new/a.bin", data),
        ("/work/new/empty", b""),
        ("relative", b""),
        ("/etc", b""),
        ("/etc/passwd/x", b""),
    ]
    assert [response.error for response in backend.upload_files(uploads)] == [
        None,
        None,
        "invalid_path",
        "is_directory",
        "invalid_path",
    ]
    found = backend.download_files(["/work/new/a.bin", "/work/new/empty", "relative", "/none", "/etc"])
    assert [response.content for response in found] == [data, b"", None, None, None]
    assert [response.error for response in found[2:]] == ["invalid_path", "file_not_found", "is_directory"]
    plain = EmberboxBackend(backend.sandbox, user="www-data", cwd="/tmp")
    assert plain.execute("id -un; pwd").output == "www-data\n/tmp\n"
    assert plain.upload_files([("/root/x", b"")])[0].error == "permission_denied"
    assert plain.download_files(["/etc/shadow"])[0].error == "permission_denied"


def test_a_file_without_end_is_not_read_into_our_memory(backend: EmberboxBackend) -> None:
    backend.execute("mkdir -p /work && truncate -s 300M /work/sparse")
    (found,) = backend.download_files(["/work/sparse"])
    assert found.content is None
    assert "larger than" in str(found.error)


def test_a_programs_mode_stays_when_it_is_written_again(backend: EmberboxBackend) -> None:
    backend.write("/work/run.sh", "#!/bin/sh\necho one\n")
    backend.execute("chmod 750 /work/run.sh")
    backend.edit("/work/run.sh", "one", "two")
    backend.write("/work/run.sh", "#!/bin/sh\necho three\n")
    assert backend.execute("/work/run.sh; stat -c %a /work/run.sh").output == "three\n750\n"


def test_output_has_its_order_and_its_bound(backend: EmberboxBackend) -> None:
    mixed = backend.execute("for i in 1 2 3; do echo out$i; echo err$i >&2; done")
    assert mixed.output == "out1\nerr1\nout2\nerr2\nout3\nerr3\n"
    assert not mixed.truncated
    small = EmberboxBackend(backend.sandbox, keep_bytes=1000)
    cut = small.execute("head -c 3000000 /dev/zero | tr '\\0' x; exit 5")
    assert (cut.output, cut.exit_code, cut.truncated) == ("x" * 1000, 5, True)


def test_what_is_large_may_stay_in_the_sandbox(sandbox: Sandbox) -> None:
    backend = EmberboxBackend(sandbox)
    backend.enable_capture_offload = True
    found = backend.execute_with_offload("seq 100000; exit 6", "/work/captured", max_inline_bytes=1000)
    assert (found.offloaded, found.response.exit_code) == (True, 6)
    assert backend.execute("tail -n 1 /work/captured").output == "100000\n"


def test_more_commands_run_at_once_than_a_loop_has_threads(backend: EmberboxBackend) -> None:
    """Each waits for all: they end only when twelve of them run at the same time."""
    meet = "mkdir -p /work/meet; touch /work/meet/$$; until [ $(ls /work/meet | wc -l) -ge 12 ]; do sleep 0.1; done"

    async def run() -> list[int | None]:
        answers = await asyncio.gather(*(backend.aexecute(meet, timeout=300) for _ in range(12)))
        return [answer.exit_code for answer in answers]

    assert asyncio.run(run()) == [0] * 12


def test_it_is_what_the_framework_takes_for_a_sandbox(backend: EmberboxBackend) -> None:
    assert isinstance(backend, SandboxBackendProtocol)
