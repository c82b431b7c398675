"""The interpreter that `run_code` speaks to. It runs in a sandbox, so it imports the standard library alone.

The package never imports it: bridge.py gets its text, and executes it in a process of its own where none runs yet.
That process listens on a Unix socket; so it outlives its clients, is in every suspend and every fork, and a later
bridge finds its variables as they were.

Lines of JSON to the interpreter: {"type": "run", "code": ...}, perhaps with variables of the environment for this code
alone ("env": {...}); {"type": "interrupt"}; {"type": "end"}.
From it: stdout, stderr, result, error, and at the end of each piece of code done.

Python 3.8 and later.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import inspect
import io
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from typing import Any, Callable, Dict, Iterator

Message = Dict[str, Any]

MIMES = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
}
CHART = "application/vnd.emberbox.chart+json"
POINTS_MAX = 10_000
TEXT_MAX = 1 << 20
LINE_S = 0.01
"""So long what is written may take to become a line: print() writes the end of one by itself."""
CODE_NAME = "<code>"
OWN_NAME = "<emberbox>"  # as bridge.py compiles it

Send = Callable[[Message], None]


class Interpreter:
    """Runs one piece of code after the other, in the main thread, with variables that stay."""

    def __init__(self, listener: socket.socket, path: str) -> None:
        self.listener = listener
        self.path = path
        self.count = 0
        self.names: Message = {"__name__": "__main__", "__builtins__": __builtins__, "display": self.display}
        self.asked: queue.Queue[tuple[socket.socket, Message]] = queue.Queue()
        self.client: socket.socket | None = None
        self.running = False
        self.main = threading.get_ident()
        self.loop = asyncio.new_event_loop()
        self.sending = threading.Lock()
        self.outputs: list[Captured] = []

    def serve(self) -> None:
        """Answer until the process is ended."""
        os.environ.setdefault("MPLBACKEND", "Agg")
        sys.argv = [""]
        sys.path.insert(0, "")
        self.outputs = [Captured(1, "stdout", self), Captured(2, "stderr", self)]
        asyncio.set_event_loop(self.loop)
        threading.Thread(target=self.accept, daemon=True).start()
        while True:
            try:
                client, message = self.asked.get()
                self.client = client
                with environment(message.get("env") or {}):
                    self.run(str(message.get("code", "")))
            except KeyboardInterrupt:
                pass  # it came when the code had just ended

    def accept(self) -> None:
        """Take clients; each has a thread that reads."""
        while True:
            client = self.listener.accept()[0]
            threading.Thread(target=self.read, args=(client,), daemon=True).start()

    def read(self, client: socket.socket) -> None:
        """Put a client's lines into the queue; an interrupt, or the end, is for at once."""
        with contextlib.suppress(OSError, ValueError):
            for line in client.makefile("rb"):
                message = json.loads(line)
                if message.get("type") == "interrupt":
                    if self.running:
                        signal.pthread_kill(self.main, signal.SIGINT)
                elif message.get("type") == "end":
                    os.unlink(self.path)
                    os._exit(0)  # the main thread may be busy for ever
                else:
                    self.asked.put((client, message))

    def send(self, message: Message) -> None:
        """Tell the client whose code runs; when it has gone nobody is told."""
        line = json.dumps(message).encode() + b"\n"
        with self.sending, contextlib.suppress(OSError):
            if self.client is not None:
                self.client.sendall(line)

    def run(self, code: str) -> None:
        """Run a piece of code and tell what comes of it."""
        self.count += 1
        self.running = True
        try:
            self.execute(code)
            show_figures(self.send)
        except SystemExit as error:
            if error.code not in (None, 0):
                self.send(describe(error))
        except BaseException as error:
            self.send(describe(error))
        finally:
            self.running = False
            for output in self.outputs:
                output.flush()
            self.send({"type": "done", "count": self.count})

    def execute(self, code: str) -> None:
        """Run statements; the value of the last one is shown when it is an expression, as in a notebook."""
        import linecache

        name = "%s#%d" % (CODE_NAME, self.count)
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        tree = ast.parse(code, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";"):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        self.evaluate(tree, name, "exec")
        if last is not None:
            value = self.evaluate(last, name, "eval")
            if value is not None:
                self.names["_"] = value
                self.send({"type": "result", "data": forms(value), "main": True})

    def evaluate(self, tree: Any, name: str, mode: str) -> object:
        """Run a tree, of which any line may await."""
        compiled = compile(tree, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(compiled, self.names)  # noqa: S307 - what it is for
        if compiled.co_flags & inspect.CO_COROUTINE:
            return self.loop.run_until_complete(value)
        return value

    def display(self, *values: object) -> None:
        """Show values, as the last line of a piece of code does."""
        for value in values:
            self.send({"type": "result", "data": forms(value), "main": False})


@contextlib.contextmanager
def environment(variables: Dict[str, str]) -> Iterator[None]:
    """Give code variables of the environment that it alone has."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Captured:
    """A descriptor whose output is told line by line, whoever writes it: Python, a library, a child."""

    def __init__(self, file: int, name: str, interpreter: Interpreter) -> None:
        reading, writing = os.pipe()
        os.dup2(writing, file)
        os.close(writing)
        self.file = file
        self.name = name
        self.interpreter = interpreter
        self.mark = b"\0emberbox-" + base64.b16encode(os.urandom(16)) + b"\0"
        self.seen = threading.Event()
        stream = io.TextIOWrapper(io.FileIO(file, "w", closefd=False), "utf-8", "replace", write_through=True)
        setattr(sys, name, stream)
        threading.Thread(target=self.tell, args=(reading,), daemon=True).start()

    def tell(self, reading: int) -> None:
        """Send what is written, until a mark of `flush` comes."""
        held = b""
        while True:
            held += os.read(reading, 1 << 16)
            while not held.endswith((b"\n", b"\0")) and len(held) < 1 << 16:
                if not select.select([reading], [], [], LINE_S)[0]:
                    break
                held += os.read(reading, 1 << 16)
            text, mark, rest = held.partition(self.mark)
            if not mark:
                keep = self.beginning_at(text)
                text, rest = text[: len(text) - keep], text[len(text) - keep :]
            if text:
                self.interpreter.send({"type": self.name, "text": text.decode("utf-8", "replace")})
            held = rest
            if mark:
                self.seen.set()

    def beginning_at(self, text: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a mark, or of a character."""
        for size in range(min(len(self.mark) - 1, len(text)), 0, -1):
            if text.endswith(self.mark[:size]):
                return size
        for size in range(1, min(4, len(text)) + 1):
            byte = text[-size]
            if byte < 0x80:
                return 0
            if byte >= 0xC0:
                return size if size < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        return 0

    def flush(self) -> None:
        """Wait until everything that has been written is told."""
        with contextlib.suppress(Exception):
            getattr(sys, self.name).flush()
        self.seen.clear()
        os.write(self.file, self.mark)  # less than PIPE_BUF: at once or not at all
        self.seen.wait(5)


def forms(value: Any) -> Message:
    """Return a value by MIME type: its text, and what it can be besides, by the methods that notebooks use."""
    found: Message = {}
    with contextlib.suppress(Exception):
        bundle = value._repr_mimebundle_()
        found.update(bundle[0] if isinstance(bundle, tuple) else bundle)
    for method, mime in MIMES.items():
        with contextlib.suppress(Exception):
            if mime not in found and not isinstance(value, type):
                found[mime] = getattr(value, method)()
    chart = figure_chart(value)
    if chart:
        found[CHART] = chart
    picture = figure_png(value)
    if picture:
        found["image/png"] = picture
    if isinstance(value, (dict, list)):
        with contextlib.suppress(Exception):
            found.setdefault("application/json", json.dumps(value))
    if "text/plain" not in found:
        found["text/plain"] = text_of(value)
    return {mime: as_text(form) for mime, form in found.items() if form is not None}


def text_of(value: object) -> str:
    """Return a value's text, as it is or broken as it is."""
    try:
        return repr(value)[:TEXT_MAX]
    except Exception as error:
        return "<%s whose repr failed: %r>" % (type(value).__name__, error)


def as_text(form: object) -> str:
    """Return a form as text: bytes in Base64, what is structured as JSON."""
    if isinstance(form, tuple):  # with metadata
        form = form[0]
    if isinstance(form, bytes):
        return base64.b64encode(form).decode()
    return form if isinstance(form, str) else json.dumps(form, default=str)


def figure_png(value: object) -> bytes | None:
    """Return the picture of a figure of matplotlib, of which pyplot then forgets; None for anything else."""
    if "matplotlib.figure" not in sys.modules:
        return None
    from matplotlib.figure import Figure

    if not isinstance(value, Figure):
        return None
    picture = io.BytesIO()
    value.savefig(picture, format="png", bbox_inches="tight")
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(value)  # it is shown once
    return picture.getvalue()


def figure_chart(value: Any) -> Message | None:
    """Return what a figure of matplotlib shows as data: lines, points, bars or pies; None where it has none of them."""
    if "matplotlib.figure" not in sys.modules or not isinstance(value, sys.modules["matplotlib.figure"].Figure):
        return None
    charts = []
    for axes in getattr(value, "axes", ()):
        with contextlib.suppress(Exception):
            charts.append(axes_chart(axes))
    found = [chart for chart in charts if chart is not None]
    if len(found) > 1:
        title = getattr(value, "_suptitle", None)
        return {"type": "superchart", "title": title.get_text() if title else "", "elements": found}
    return found[0] if found else None


def axes_chart(axes: Any) -> Message | None:
    """Return what one coordinate system shows."""
    kind, elements = axes_elements(axes)
    if not elements:
        return None
    chart: Message = {"type": kind, "title": axes.get_title(), "elements": elements}
    if kind == "pie":
        return chart
    for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        chart[side + "_label"], chart[side + "_unit"] = axis.get_label_text(), None
        if kind != "bar":
            chart[side + "_ticks"] = [plain(place) for place in axis.get_ticklocs()]
            chart[side + "_tick_labels"] = [label.get_text() for label in axis.get_ticklabels()]
            chart[side + "_scale"] = axis.get_scale()
    return chart


def axes_elements(axes: Any) -> tuple[str, list[Message]]:
    """Return which kind of chart it is, and its parts."""
    wedges = [patch for patch in axes.patches if type(patch).__name__ == "Wedge"]
    if wedges:
        return "pie", [
            {"label": one.get_label(), "angle": plain(one.theta2 - one.theta1), "radius": plain(one.r)}
            for one in wedges
        ]
    bars = [container for container in axes.containers if hasattr(container, "patches")]
    if bars:
        names = [label.get_text() for label in axes.get_xticklabels()]
        labels = dict(zip(map(plain, axes.get_xticks()), names))  # noqa: B905 - Python 3.8
        return "bar", [
            bar_of(bar, container.get_label(), labels) for container in bars for bar in container.patches[:POINTS_MAX]
        ]
    dots = [one for one in axes.collections if type(one).__name__ == "PathCollection"]
    if dots:
        return "scatter", [points_of(one.get_label(), one.get_offsets()) for one in dots]
    rows = [(line.get_label(), zip(line.get_xdata(), line.get_ydata())) for line in axes.lines]  # noqa: B905 - the same
    return "line", [points_of(label, points) for label, points in rows]


def bar_of(bar: Any, group: str, labels: Dict[Any, str]) -> Message:
    """Return one bar; its label is the one below its middle, where there is one."""
    middle = plain(bar.get_x() + bar.get_width() / 2)
    return {"label": labels.get(middle) or str(middle), "group": group, "value": plain(bar.get_height())}


def points_of(label: str, points: Any) -> Message:
    """Return a row of points."""
    return {"label": label, "points": [[plain(x), plain(y)] for x, y in list(points)[:POINTS_MAX]]}


def plain(value: Any) -> float | str | None:
    """Return a number that JSON has, or a text: of a moment as ISO 8601 has it."""
    try:
        number = round(float(value), 9)
        return number if abs(number) < float("inf") else None
    except (TypeError, ValueError):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)


def show_figures(send: Send) -> None:
    """Show the figures that pyplot has open, as a notebook does at the end of a cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        send({"type": "result", "data": forms(pyplot.figure(number)), "main": False})


def describe(error: BaseException) -> Message:
    """Return the message that tells an exception: the lines of the code itself, without those of this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != OWN_NAME]
    head = ["Traceback (most recent call last):\n"] if frames else []
    lines = [*head, *traceback.format_list(frames), *traceback.format_exception_only(type(error), error)]
    return {
        "type": "error",
        "name": type(error).__name__,
        "value": str(error),
        "traceback": "".join(lines),
    }


def serve(listener: socket.socket, path: str) -> None:
    """Serve until the process is ended; never return.

    Args:
        listener: a Unix socket.
        path: of it; removed at the end.
    """
    warnings.filterwarnings("ignore", message=".*non-interactive.*")
    Interpreter(listener, path).serve()
