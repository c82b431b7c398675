"""Daytona's SDK: code, in a process of its own and in contexts; the image has Python."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from daytona import CodeRunParams, CreateSandboxFromSnapshotParams, Daytona, Sandbox
from daytona.common.errors import DaytonaError, DaytonaTimeoutError

SNAPSHOT = os.environ["EMBERBOX_TEST_SNAPSHOT"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    variables = {"FROM": "create", "BOTH": "create"}
    made = Daytona().create(CreateSandboxFromSnapshotParams(snapshot=SNAPSHOT, env_vars=variables))
    yield made
    made.delete()


def test_code_runs_with_arguments_and_variables(sandbox: Sandbox) -> None:
    code = "import sys, os\nprint(sys.argv[1:], os.environ['BOTH'])\nraise SystemExit(4)"
    done = sandbox.process.code_run(code, CodeRunParams(argv=["a", "b c"], env={"BOTH": "code"}))
    assert (done.exit_code, done.result) == (4, "['a', 'b c'] code\n")
    assert "ZeroDivisionError" in sandbox.process.code_run("1 / 0").result


def test_code_in_a_context_keeps_its_variables(sandbox: Sandbox) -> None:
    interpreter = sandbox.code_interpreter
    heard: list[str] = []
    done = interpreter.run_code(
        "x = 41\nprint('out')\nimport sys\nprint('err', file=sys.stderr)",
        on_stdout=lambda message: heard.append(message.output),
    )
    assert (done.stdout, done.stderr, done.error) == ("out\n", "err\n", None)
    assert "".join(heard) == "out\n"
    assert interpreter.run_code("print(x + 1)").stdout == "42\n"
    failed = interpreter.run_code("1 / 0").error
    assert failed is not None
    assert (failed.name, "ZeroDivisionError" in failed.traceback) == ("ZeroDivisionError", True)

    context = interpreter.create_context(cwd="/usr")
    told = interpreter.run_code(
        "import os\nprint(os.getcwd(), 'x' in globals(), os.environ['A'])", context=context, envs={"A": "here"}
    )
    assert told.stdout == "/usr False here\n"
    assert [item.id for item in interpreter.list_contexts()] == [context.id]
    with pytest.raises(DaytonaTimeoutError):
        interpreter.run_code("import time\ntime.sleep(1000)", timeout=1)
    assert interpreter.run_code("print('free')").stdout == "free\n"
    interpreter.delete_context(context)
    assert interpreter.list_contexts() == []
    with pytest.raises(DaytonaError, match="not found"):
        interpreter.run_code("1", context=context)
