"""Fixtures: the console at a port, and a browser that has logged in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from support.console_world import ConsolePlane, serve_console


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page of one script."""
    directory = tmp_path / "page"
    directory.mkdir()
    (directory / "manifest.json").write_text('{"script": "main-A.js", "style": "main-B.css"}')
    (directory / "main-A.js").write_text("1")
    return directory


@pytest.fixture
async def console(tmp_path: Path, page: Path) -> AsyncIterator[ConsolePlane]:
    async with serve_console(tmp_path, page) as plane:
        yield plane


@pytest.fixture
async def browser(console: ConsolePlane) -> AsyncIterator[httpx.AsyncClient]:
    async with console.browser() as client:
        await console.log_in(client)
        yield client
