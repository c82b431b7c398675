"""What a terminal shows of what is awaited."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from emberbox.cli import progress


class Screen(io.StringIO):
    """A terminal that tells when something is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        if "copying" in text:
            self.written.set()
        return super().write(text)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return screen


def test_what_takes_long_is_shown_with_how_much_is_done(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    with progress.waiting("copying") as tell:
        assert tell is not None
        tell(3 << 20)
        assert screen.written.wait(60)
    assert "copying … 3.0 MiB" in screen.getvalue()


def test_what_is_over_soon_shows_nothing(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE_S", 3600.0)
    with progress.waiting("copying") as tell:
        assert tell is not None
        tell(1)
    assert "copying" not in screen.getvalue()


def test_where_nobody_looks_nothing_is_counted() -> None:
    with progress.waiting("copying") as tell:
        assert tell is None
