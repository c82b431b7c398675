"""E2B's own code interpreter SDK, unmodified, with its default template and real microVMs."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from e2b_code_interpreter import Sandbox

from support.e2b import build_code_interpreter, e2b_environment
from support.server import Server

pytestmark = pytest.mark.vm

CHART = """
import matplotlib.pyplot as plt
figure, (left, middle, right) = plt.subplots(1, 3)
left.plot([1, 2, 3], [4, 5, 6], label='rise')
left.set_title('Line')
left.set_xlabel('x')
middle.bar(['a', 'b'], [7, 8])
right.pie([1, 3], labels=['one', 'three'])
plt.show()
"""


@pytest.fixture(scope="module", autouse=True)
def environment(server: Server) -> Iterator[None]:
    """Lead the SDK here by its own variables."""
    with e2b_environment(server):
        build_code_interpreter()
        yield


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.create(timeout=3600) as sandbox:
        yield sandbox


def test_code_runs_and_its_variables_stay(sandbox: Sandbox) -> None:
    sandbox.run_code("x = 41")
    done = sandbox.run_code("print('said'); x + 1")
    assert (done.text, done.logs.stdout, done.error) == ("42", ["said\n"], None)
    assert sandbox.run_code("import os; os.getcwd()").text == "'/home/user'"
    failed = sandbox.run_code("1 / 0")
    assert failed.error is not None
    assert failed.error.name == "ZeroDivisionError"


def test_tables_and_charts_are_shown(sandbox: Sandbox) -> None:
    table = sandbox.run_code("import pandas; pandas.DataFrame({'a': [1, 2]})").results[0]
    assert "<table" in (table.html or "")
    (chart,) = sandbox.run_code(CHART).results
    assert base64.b64decode(chart.png or "").startswith(b"\x89PNG")
    assert chart.chart is not None
    line, bars, pie = chart.chart.elements
    assert (line.type, line.title, line.x_label, line.elements[0].label) == ("line", "Line", "x", "rise")
    assert line.elements[0].points == [(1, 4), (2, 5), (3, 6)]
    assert [(bar.label, bar.value) for bar in bars.elements] == [("a", 7), ("b", 8)]
    assert [(part.label, part.angle) for part in pie.elements] == [("one", 90), ("three", 270)]


def test_contexts_outlive_a_pause_and_are_in_forks() -> None:
    with Sandbox.create(timeout=3600) as sandbox:
        context = sandbox.create_code_context(cwd="/tmp")
        sandbox.run_code("x = 'kept'", context=context)
        sandbox.pause()
        again = Sandbox.connect(sandbox.sandbox_id, timeout=3600)
        assert again.run_code("x", context=context).text == "'kept'"
        (fork,) = again.fork()
        try:
            assert fork.run_code("x = 'forked'; x", context=context).text == "'forked'"
            assert again.run_code("x", context=context).text == "'kept'"
            assert context.id in [one.id for one in fork.list_code_contexts()]
        finally:
            fork.kill()


def test_bash_is_a_language_too(sandbox: Sandbox) -> None:
    assert sandbox.run_code("echo $((6 * 7))", language="bash").logs.stdout == ["42\n"]
