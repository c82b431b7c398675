"""E2B's own code interpreter SDK against the edge; the interpreter is the real one, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import NotFoundException, SandboxException, TimeoutException
from e2b_code_interpreter import AsyncSandbox, Context, Execution, OutputMessage, Sandbox

from emberbox.edges.sandboxes.interpreter import Program
from support.e2b_world import E2bPlane, serve_e2b

Wait = Callable[..., Any]


@pytest.fixture
def program() -> Iterator[Program]:
    """The interpreter, with a directory of the test's own for its sockets; those that run are ended."""
    files = resources.files("emberbox_sdk")
    bridge, kernel = (files.joinpath(name).read_text() for name in ("bridge.py", "kernel.py"))
    directory = tempfile.mkdtemp(prefix="ebc-")
    place = f"{directory}/%d"
    try:
        assert "/tmp/.emberbox-code-%d" in bridge
        yield Program(bridge.replace("/tmp/.emberbox-code-%d", place), kernel, place)
    finally:
        for path in Path(directory).glob("*/*"):
            if path.is_socket():
                end(path)
        shutil.rmtree(directory)


def end(path: Path) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b'{"type": "end"}\n')
        connection.recv(1)


@pytest.fixture
async def e2b(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[E2bPlane]:
    async with serve_e2b(tmp_path, program) as plane:
        for name, value in {"API_URL": plane.url, "SANDBOX_URL": plane.url, "API_KEY": plane.api_key}.items():
            monkeypatch.setenv(f"E2B_{name}", value)
        yield plane


@pytest.fixture
async def code(e2b: E2bPlane, wait: Wait) -> Sandbox:
    """A sandbox of the standard template."""
    made: Sandbox = await wait(lambda: Sandbox.create("standard", envs={"FROM": "create"}))
    return made


async def run(sandbox: Sandbox, code: str, **more: Any) -> Execution:
    return await asyncio.to_thread(lambda: sandbox.run_code(code, **more))


async def test_variables_stay_and_the_last_line_is_the_result(code: Sandbox) -> None:
    first = await run(code, "x = 41\nprint('said')\nimport sys; print('wrong', file=sys.stderr)")
    second = await run(code, "x + 1")
    assert (first.logs.stdout, first.logs.stderr) == (["said\n"], ["wrong\n"])
    assert (second.text, second.execution_count, second.error) == ("42", 2, None)


async def test_output_is_heard_as_it_is_written(code: Sandbox) -> None:
    heard: list[OutputMessage] = []
    await run(
        code, "import time\nfor i in range(3):\n    print(i, flush=True); time.sleep(0.3)", on_stdout=heard.append
    )
    assert [message.line for message in heard] == ["0\n", "1\n", "2\n"]
    assert heard[2].timestamp - heard[0].timestamp > 300_000_000


async def test_results_have_forms(code: Sandbox) -> None:
    done = await run(
        code,
        "class Both:\n    def _repr_html_(self): return '<b>1</b>'\n    def _repr_png_(self): return b'png'\n"
        "display(Both())\n{'a': [1]}",
    )
    shown, main = done.results
    assert (shown.html, shown.png, shown.is_main_result) == ("<b>1</b>", "cG5n", False)
    assert (main.json, main.text, main.is_main_result) == ({"a": [1]}, "{'a': [1]}", True)


async def test_an_error_has_its_traceback(code: Sandbox) -> None:
    done = await run(code, "def f():\n    return 1 / 0\nf()")
    assert done.error is not None
    assert (done.error.name, done.error.value) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in done.error.traceback


async def test_code_has_variables_of_the_environment(code: Sandbox) -> None:
    line = "import os; [os.environ.get('FROM'), os.environ.get('OWN')]"
    assert (await run(code, line, envs={"OWN": "1"})).text == "['create', '1']"
    assert (await run(code, line)).text == "['create', None]"


async def test_contexts_have_variables_and_a_directory_of_their_own(code: Sandbox, tmp_path: Path, wait: Wait) -> None:
    context: Context = await wait(lambda: code.create_code_context(cwd=str(tmp_path)))
    assert (context.language, context.cwd) == ("python", str(tmp_path))
    await run(code, "x = 'theirs'", context=context)
    assert (await run(code, "import os; (x, os.getcwd())", context=context)).text == str(("theirs", str(tmp_path)))
    assert (await run(code, "x")).error is not None
    assert context.id in [one.id for one in await wait(code.list_code_contexts)]
    await wait(code.restart_code_context, context)
    again = await run(code, "x", context=context)
    assert again.error is not None
    assert again.error.name == "NameError"
    await wait(code.remove_code_context, context)
    assert context.id not in [one.id for one in await wait(code.list_code_contexts)]
    for use in (lambda: code.remove_code_context(context), lambda: code.run_code("1", context=context)):
        with pytest.raises(NotFoundException):
            await wait(use)
    with pytest.raises(SandboxException, match="no directory"):
        await wait(lambda: code.create_code_context(cwd="/nowhere"))


async def test_other_languages_are_run_by_their_programs(code: Sandbox) -> None:
    done = await run(code, "echo $FROM; echo bad >&2; exit 3", language="bash")
    assert (done.logs.stdout, done.logs.stderr) == (["create\n"], ["bad\n"])
    assert done.error is not None
    assert (done.error.name, done.error.value, done.error.traceback) == ("ExitError", "exit status 3", "bad\n")
    with pytest.raises(SandboxException, match="must be one of python, bash"):
        await run(code, "1", language="cobol")


async def test_code_that_nobody_waits_for_any_more_is_interrupted(code: Sandbox) -> None:
    await run(code, "x = 1")
    with pytest.raises(TimeoutException):
        await run(code, "import time\nx = 2\ntime.sleep(1000)\nx = 3", timeout=2)
    assert (await run(code, "x")).text == "2"


async def test_an_interpreter_that_ends_is_an_error_and_the_next_code_has_a_new_one(code: Sandbox) -> None:
    done = await run(code, "import os; os._exit(3)")
    assert done.error is not None
    assert done.error.name == "InterpreterEnded"
    assert (await run(code, "1")).text == "1"


async def test_a_private_sandbox_needs_its_token(e2b: E2bPlane, wait: Wait) -> None:
    made = await wait(lambda: Sandbox.create("standard", network={"allow_public_traffic": False}))
    assert (await run(made, "1")).text == "1"
    headers = {"E2b-Sandbox-Id": made.sandbox_id, "E2b-Sandbox-Port": "49999"}
    answer = await wait(lambda: httpx.get(f"{e2b.url}/contexts", headers=headers))
    assert answer.status_code == 403


async def test_code_needs_the_access_token(code: Sandbox, e2b: E2bPlane, wait: Wait) -> None:
    headers = {"E2b-Sandbox-Id": code.sandbox_id, "E2b-Sandbox-Port": "49999"}
    answer = await wait(lambda: httpx.post(f"{e2b.url}/execute", headers=headers, json={"code": "1"}))
    assert (answer.status_code, "access token" in answer.text) == (401, True)


async def test_the_sdk_for_asyncio_does_the_same(e2b: E2bPlane) -> None:
    made = await AsyncSandbox.create("standard")
    assert (await made.run_code("6 * 7")).text == "42"
    assert await made.is_running()
