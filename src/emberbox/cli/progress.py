"""Live progress: what is awaited, a build's log folded, or steps with their times and a table of them at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PATIENCE_S: Final = 1.0
_BAR_CELLS: Final = 12
_ROOM_OF_SPINNER: Final = 4


@contextmanager
def waiting(title: str) -> Iterator[Callable[[int], None] | None]:
    """Show on a terminal's standard error what is awaited, where it takes longer than a second.

    The block is given what it calls with how many bytes are done, if it counts any; None where nobody looks.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    status = console.status(Text(f"{title} …"))
    timer = threading.Timer(_PATIENCE_S, status.start)
    timer.start()
    try:
        yield lambda count: status.update(Text(f"{title} … {count / (1 << 20):.1f} MiB"))
    finally:
        timer.cancel()
        timer.join()
        status.stop()


class BuildView:
    """Shows a build's log as it comes: its steps and how it goes on; of what a step says only the last line, live.

    All that a step has said is shown where it fails; the whole log is the server's to keep (`emberbox logs`).

    Args:
        show: shows a line for good.
        tell: shows what is under way in place of what was under way; None where nobody looks.
        everything: nothing is folded.
    """

    def __init__(
        self, show: Callable[[str], None], tell: Callable[[str], None] | None = None, *, everything: bool = False
    ) -> None:
        from emberbox_sdk.build_log import FoldedLog, Kind

        self._show = show
        self._tell = tell
        self._folded = None if everything else FoldedLog()
        self._left_out = Kind.END if tell is None else Kind.BEGIN  # a live line says what has begun

    def take(self, line: str) -> None:
        """Take the log's next line."""
        if self._folded is None:
            self._show(line)
            return
        for told in self._folded.take(line):
            if told.kind is not self._left_out:
                self._show(told.text)
        if self._tell is not None:
            self._tell(_describe(*self._folded.steps, self._folded.now))


def _describe(ended: int, total: int, now: str) -> str:
    if not total or not now:
        return ""
    cells = round(_BAR_CELLS * ended / total)
    return f"{'━' * cells}{'─' * (_BAR_CELLS - cells)} {now}"


@contextmanager
def build_view(show: Callable[[str], None], *, everything: bool = False) -> Iterator[BuildView]:
    """Give a view of a build, with a live line where the output is a terminal.

    Args:
        show: prints a line.
        everything: nothing is folded.
    """
    with live_line("building …") as tell:
        yield BuildView(show, tell, everything=everything)


@contextmanager
def live_line(title: str = "") -> Iterator[Callable[[str], None] | None]:
    """Give what shows a text below all output, in one line, until the next one; an empty one takes it away.

    None where the output is no terminal.
    """
    console = Console()
    if not console.is_terminal:
        yield None
        return
    status = console.status("")

    def tell(text: str) -> None:
        if not text:
            status.stop()
            return
        status.update(_one_line(console, f"{title} {text}".strip()))
        status.start()

    try:
        yield tell
    finally:
        status.stop()


def _one_line(console: Console, text: str) -> Text:
    line = Text(text)
    line.truncate(max(1, console.width - _ROOM_OF_SPINNER), overflow="ellipsis")
    return line


class Step:
    """A step under way.

    Attributes:
        note: shown behind the title when it is done.
        failed: set where a step goes on after a failure, so that it is not shown as done.
        tell: shows behind the title what is under way; None where nobody looks.
    """

    def __init__(self, title: str, tell: Callable[[str], None] | None) -> None:
        self.title = title
        self.note = ""
        self.failed = False
        self.tell = tell


class Timeline:
    """Shows steps as they happen and remembers how long each took.

    Args:
        console: where it writes.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._taken: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Time a step; it is marked as done or failed when the block ends."""
        begin = time.monotonic()
        status = self.console.status(Text(f"{title} …"))

        def tell(text: str) -> None:
            status.update(_one_line(self.console, f"{title} … {text}"))

        step = Step(title, tell if self.console.is_terminal else None)
        try:
            with status:
                yield step
        except BaseException:
            self._print(Text.assemble(("✗ ", "bold red"), title))
            raise
        if step.failed:
            self._print(Text.assemble(("✗ ", "bold red"), title))
            return
        seconds = time.monotonic() - begin
        self._taken.append((step.title, seconds))
        line = Text.assemble(("✓ ", "bold green"), step.title, (f"  {seconds:.2f} s", "cyan"))
        if step.note:
            line.append(f"  {step.note}", "dim")
        self._print(line)

    def say(self, text: str) -> None:
        """Show a line that belongs to the tour."""
        self._print(Text(f"  {text}"))

    def quote(self, text: str) -> None:
        """Show a line that somebody else wrote, such as of a log."""
        self._print(Text(f"  │ {text}", "dim"))

    def warn(self, text: str) -> None:
        """Show what went wrong on the side."""
        self._print(Text(f"! {text}", "yellow"))

    def show_table(self) -> None:
        """Show how long each step took."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("step", overflow="fold")
        table.add_column("seconds", justify="right")
        for title, seconds in self._taken:
            table.add_row(title, f"{seconds:.2f}")
        self.console.print("\nwhat took how long", style="bold", highlight=False)
        self.console.print(table, highlight=False)

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True, highlight=False)
