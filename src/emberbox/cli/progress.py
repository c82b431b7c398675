"""Live progress: one thing that is awaited, or steps with their times, a log between them, and a table at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PATIENCE_S = 1.0


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


class Step:
    """A step under way.

    Attributes:
        note: shown behind the title when it is done.
        failed: set where a step goes on after a failure, so that it is not shown as done.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        self.failed = False


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
        step = Step(title)
        begin = time.monotonic()
        try:
            with self.console.status(Text(f"{title} …")):
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
