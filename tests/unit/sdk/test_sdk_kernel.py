"""The interpreter that runs in sandboxes, run here as a command runs it there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emberbox_sdk._sync.code import BRIDGE, KERNEL

MATPLOTLIB = {
    "matplotlib/__init__.py": "",
    "matplotlib/figure.py": "class Figure:\n    def savefig(self, file, **_): file.write(b'PNG')\n",
    "matplotlib/pyplot.py": (
        "from matplotlib.figure import Figure\nopened = {}\n"
        "def plot(): opened[1] = Figure()\ndef get_fignums(): return list(opened)\n"
        "def figure(number): return opened[number]\ndef close(figure): opened.clear()\n"
    ),
}


class Bridge:
    """A command that passes lines."""

    def __init__(self, name: str, directory: Path | str) -> None:
        command = [sys.executable, "-S", "-c", BRIDGE, name, str(directory), KERNEL]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, **message: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def finish(self) -> list[dict[str, Any]]:
        messages = [self.read()]
        while messages[-1]["type"] != "done":
            messages.append(self.read())
        return messages

    def run(self, code: str) -> list[dict[str, Any]]:
        self.send(type="run", code=code)
        return self.finish()

    def text(self, code: str) -> str:
        return "".join(message.get("text", "") for message in self.run(code))

    def value(self, code: str) -> str:
        (result,) = [message for message in self.run(code) if message["type"] == "result"]
        return str(result["data"]["text/plain"])

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    for path in Path(f"/tmp/.emberbox-code-{os.getuid()}").glob(f"{name}*"):
        path.unlink()


@pytest.fixture
def bridge(name: str, tmp_path: Path) -> Iterator[Bridge]:
    bridge = Bridge(name, tmp_path)
    yield bridge
    with contextlib.suppress(BrokenPipeError, ValueError):
        bridge.send(type="end")
    bridge.close()


def test_variables_stay_and_the_last_line_is_shown(bridge: Bridge) -> None:
    assert bridge.run("x = 41") == [{"type": "done", "count": 1}]
    assert bridge.run("x + 1")[0] == {"type": "result", "data": {"text/plain": "42"}, "main": True}
    assert bridge.value("_") == "42"
    assert bridge.run("x;")[0]["type"] == "done"
    assert bridge.run("None")[0]["type"] == "done"
    assert bridge.run("")[0]["type"] == "done"


def test_another_bridge_finds_the_same_variables(bridge: Bridge, name: str, tmp_path: Path) -> None:
    bridge.run("x = 'kept'")
    other = Bridge(name, tmp_path)
    assert other.value("x") == "'kept'"
    other.close()
    assert bridge.value("x") == "'kept'"


def test_an_interpreter_outlives_its_bridges(bridge: Bridge, name: str, tmp_path: Path) -> None:
    bridge.run("import os; x = os.getpid()")
    first = bridge.value("x")
    bridge.close()
    later = Bridge(name, tmp_path)
    assert later.value("os.getpid()") == first
    later.send(type="end")
    later.close()
    again = Bridge(name, tmp_path)
    assert again.run("x")[0]["name"] == "NameError"
    again.send(type="end")
    again.close()


def test_whoever_writes_is_told(bridge: Bridge) -> None:
    code = "import os, sys\nprint('a')\nos.system('echo b')\nos.write(1, b'c')\nsys.stderr.write('é')"
    messages = bridge.run(code)
    assert "".join(message["text"] for message in messages if message["type"] == "stdout") == "a\nb\nc"
    assert [message["text"] for message in messages if message["type"] == "stderr"] == ["é"]


def test_much_output_is_whole_and_in_order(bridge: Bridge) -> None:
    assert bridge.text("for i in range(20000): print(i, '€')") == "".join(f"{i} €\n" for i in range(20000))


def test_output_comes_while_code_runs(bridge: Bridge) -> None:
    bridge.send(type="run", code="print('now')\nwhile True: pass")
    assert bridge.read()["text"].startswith("now")
    bridge.send(type="interrupt")
    error = [message for message in bridge.finish() if message["type"] == "error"]
    assert error[0]["name"] == "KeyboardInterrupt"
    assert bridge.value("1") == "1"


def test_an_exception_shows_the_lines_of_the_code_alone(bridge: Bridge) -> None:
    error = bridge.run("def f():\n    return 1 / 0\n\nf()")[0]
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / 0" in error["traceback"]
    assert "emberbox" not in error["traceback"]
    assert bridge.run("x = (")[0]["name"] == "SyntaxError"


def test_what_is_left_at_an_exit_is_told_and_the_interpreter_stays(bridge: Bridge) -> None:
    assert bridge.run("import sys; y = 5; sys.exit(3)")[0]["name"] == "SystemExit"
    assert bridge.run("sys.exit()") == [{"type": "done", "count": 2}]
    assert bridge.value("y") == "5"


def test_any_line_may_await(bridge: Bridge) -> None:
    assert bridge.value("import asyncio\nawait asyncio.sleep(0, 'slept')") == "'slept'"


def test_values_are_shown_in_their_forms(bridge: Bridge) -> None:
    bridge.run("class T:\n    def _repr_html_(self): return '<b>'\n    def _repr_png_(self): return b'PNG'")
    data = bridge.run("T()")[0]["data"]
    assert (data["text/html"], data["image/png"]) == ("<b>", "UE5H")
    assert bridge.run("{'a': [1]}")[0]["data"]["application/json"] == '{"a": [1]}'
    shown = bridge.run("display(1, 'b')")
    assert [(message["data"]["text/plain"], message["main"]) for message in shown[:-1]] == [
        ("1", False),
        ("'b'", False),
    ]


def test_a_repr_that_fails_is_told(bridge: Bridge) -> None:
    assert "whose repr failed" in bridge.value("class B:\n    def __repr__(self): 1 / 0\nB()")


def test_figures_are_shown_at_the_end_and_once(bridge: Bridge, tmp_path: Path) -> None:
    for name, text in MATPLOTLIB.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = bridge.run("import matplotlib.pyplot as plt\nplt.plot()")
    assert [message["data"]["image/png"] for message in shown[:-1]] == ["UE5H"]
    assert bridge.run("1")[1]["type"] == "done"
    assert len(bridge.run("plt.plot()\nplt.figure(1)")) == 2


AXES = """
from types import SimpleNamespace as Has
def text(value): return Has(get_text=lambda: value)
def axis(label, ticks, names): return Has(
    get_label_text=lambda: label, get_ticklocs=lambda: ticks, get_ticklabels=lambda: list(map(text, names)),
    get_scale=lambda: 'linear')
def axes(**more): return Has(**{
    'patches': [], 'containers': [], 'collections': [], 'lines': [], 'get_title': lambda: 'T',
    'xaxis': axis('x', [0.0, 1.0], ['a', 'b']), 'yaxis': axis('y', [], []), **more})
def shown(*axes):
    figure = Figure()
    figure.axes = axes
    return figure
line = Has(get_label=lambda: 'L', get_xdata=lambda: [1, 2], get_ydata=lambda: [3.5, float('nan')])
bar = Has(get_x=lambda: -0.4, get_width=lambda: 0.8, get_height=lambda: 7)
bars = axes(
    containers=[Has(patches=[bar], get_label=lambda: 'G')], get_xticks=lambda: [0.0, 1.0],
    get_xticklabels=lambda: [text('a'), text('b')])
class Wedge: theta1, theta2, r, get_label = 0, 90, 1, lambda _: 'W'
"""


def test_figures_have_their_data(bridge: Bridge, tmp_path: Path) -> None:
    for name, text in MATPLOTLIB.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    bridge.run("from matplotlib.figure import Figure\n" + AXES)

    def chart(code: str) -> Any:
        return json.loads(bridge.run(code)[0]["data"]["application/vnd.emberbox.chart+json"])

    found = chart("shown(axes(lines=[line]))")
    assert (found["type"], found["title"], found["x_label"], found["x_ticks"]) == ("line", "T", "x", [0, 1])
    assert found["elements"] == [{"label": "L", "points": [[1, 3.5], [2, None]]}]
    found = chart("shown(bars, axes(patches=[Wedge()]), axes())")
    assert (found["type"], [one["type"] for one in found["elements"]]) == ("superchart", ["bar", "pie"])
    assert found["elements"][0]["elements"] == [{"label": "a", "group": "G", "value": 7}]
    assert found["elements"][1]["elements"] == [{"label": "W", "angle": 90, "radius": 1}]


def test_variables_of_the_environment_are_for_one_piece_of_code(bridge: Bridge) -> None:
    bridge.send(type="run", code="import os; os.environ['OWN_OF_IT']", env={"OWN_OF_IT": "1"})
    assert bridge.finish()[0]["data"]["text/plain"] == "'1'"
    assert bridge.run("os.environ['OWN_OF_IT']")[0]["name"] == "KeyError"


def test_there_is_no_input(bridge: Bridge) -> None:
    assert bridge.run("input()")[0]["name"] == "EOFError"


def test_who_has_no_home_begins_at_the_root(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    bridge = Bridge(name, "")
    try:
        assert bridge.value("import os; os.getcwd()") == "'/'"
        bridge.send(type="end")
    finally:
        bridge.close()


def test_text_is_for_python_3_8() -> None:
    import ast

    for text in (BRIDGE, KERNEL):
        ast.parse(text, feature_version=(3, 8))
