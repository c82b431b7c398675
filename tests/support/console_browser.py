"""What tests do in Chromium: start it, log in to the console, find things, look with axe-core, take screenshots."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from emberbox.time_limits import limit_s
from support import without_netlink
from support.server import DOMAIN, Server

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1",
]  # fmt: skip
PROGRAM = shutil.which("chromium")
PATIENCE_MS = limit_s(60) * 1000
expect.set_options(timeout=PATIENCE_MS)

SHOTS = os.environ.get("EMBERBOX_CONSOLE_SHOTS", "")
"""A directory for screenshots; none are kept without it."""


@contextlib.contextmanager
def chromium_browser(directory: Path) -> Iterator[Browser]:
    """Start a Chromium that the networks of microVMs do not disturb, whoever's they are.

    Args:
        directory: for what it is started by.
    """
    assert PROGRAM, "pages are tested in Chromium: apt-get install chromium"
    begin = directory / "chromium"
    command = shlex.join([sys.executable, without_netlink.__file__, PROGRAM])
    begin.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    begin.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=begin, args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Screen:
    """What a page is looked at with.

    Args:
        width: in pixels; 390 is a phone's.
        height: in pixels.
        is_dark: the system's colours are dark.
    """

    width: int = 1440
    height: int = 900
    is_dark: bool = False


WIDE, PHONE = Screen(), Screen(390, 844)
DARK, DARK_PHONE = Screen(is_dark=True), Screen(390, 844, is_dark=True)
SCREENS = {"wide": WIDE, "phone": PHONE, "dark": DARK, "dark-phone": DARK_PHONE}


def log_in(page: Page, server: Server) -> None:
    """Log in with the first key, by the form."""
    credentials = server.credentials()
    page.goto("/")
    page.get_by_label("Access key id").fill(credentials["aws_access_key_id"])
    page.get_by_label("Secret access key").fill(credentials["aws_secret_access_key"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="MicroVMs")).to_be_visible()


def state(page: Page) -> Any:
    """Return the place that tells the state of what the page is about."""
    return page.locator(".page-title .state")


def wait_for_state(page: Page, name: str) -> None:
    """Wait until what the page is about is in a state."""
    expect(state(page)).to_have_text(name)


def take(page: Page, name: str) -> None:
    """Take a screenshot, where they are kept."""
    if SHOTS:
        page.wait_for_timeout(300)
        page.screenshot(path=Path(SHOTS) / f"{name}.png")


def find_barriers(page: Page, axe: str) -> list[str]:
    """Return what axe-core finds serious or critical on a page."""
    page.evaluate(axe)  # by the debugger, which the page's policy does not bind
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{row['id']} ({row['impact']}): {node['target']} {node['failureSummary']}"
        for row in found
        if row["impact"] in ("serious", "critical")
        for node in row["nodes"]
    ]


def has_room(page: Page) -> bool:
    """Say whether a page is no wider than its window."""
    return bool(page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"))
