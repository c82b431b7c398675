"""Fixtures: a real Chromium, and pages of it in which nothing may go wrong unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from support.console_browser import PATIENCE_MS, Screen, chromium_browser
from support.server import Server

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")  # no thread has two Playwrights, and tests/examples have their own
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def open_page(chromium: Browser, server: Server) -> Iterator[OpenPage]:
    """Makes pages of sessions of their own; fails when one of them has met an error or asked for anything elsewhere."""
    contexts, wrong = [], list[str]()
    home = server.endpoints["console_url"]

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(f"console: {message.text}")

    def make(screen: Screen | None = None) -> Page:
        screen = screen or Screen()
        context = chromium.new_context(
            viewport={"width": screen.width, "height": screen.height},
            color_scheme="dark" if screen.is_dark else "light",
            reduced_motion="reduce",
            base_url=home,
            locale="en-GB",
            ignore_https_errors=True,  # of endpoints: the gateway's authority is not in the browser's store
        )
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
        page.on("request", lambda request: _check_place(request.url, home, wrong))
        return page

    yield make
    for context in contexts:
        context.close()
    assert wrong == []


def _check_place(url: str, home: str, wrong: list[str]) -> None:
    if not url.startswith((home, home.replace("http", "ws", 1), "data:", "blob:")):
        wrong.append(f"elsewhere: {url}")


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core, which console/build.py has fetched."""
    path = Path(__file__).resolve().parents[2] / "console/node_modules/axe-core/axe.min.js"
    assert path.exists(), "axe-core is not there: python console/build.py --tools"
    return path.read_text()
