"""The whole life of an image and a microVM in a real browser, by the mouse, by the keyboard alone, on every screen."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.aws import Clients
from support.console_browser import (
    SCREENS,
    Screen,
    find_barriers,
    has_room,
    log_in,
    take,
    wait_for_state,
)
from support.images import Image, ImageMaker, probe_files
from support.server import Server

pytestmark = [pytest.mark.vm]

OpenPage = Callable[..., Page]
HOSTILE = "<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def hostile_image(images: ImageMaker, probe_image: Image) -> Image:
    """An image whose build and application write what would be HTML and control characters elsewhere.

    Its build is under way, and the base image is there: that is made with the first.
    """
    files = probe_files()
    dockerfile = files["Dockerfile"]
    text = dockerfile if isinstance(dockerfile, str) else dockerfile.decode()
    lines = [f'RUN printf "%s\\n" "{HOSTILE}"', 'RUN printf "\\033[31mred\\033[0m \\342\\200\\256turned\\n"']
    at = text.index("\n", text.rindex("\nFROM ") + 1 if "\nFROM " in text else 0) + 1
    return images.start("hostile", {**files, "Dockerfile": text[:at] + "\n".join(lines) + "\n" + text[at:]})


def launch(page: Page, image: str) -> str:
    """Launch a microVM of an image by its page; return its id."""
    page.goto(f"/#/images/{image}")
    page.get_by_role("button", name="Launch", exact=True).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Launch").click()
    wait_for_state(page, "running")
    return page.url.rpartition("/")[2]


@pytest.mark.both_engines
def test_the_life_of_an_image_and_a_microvm(
    open_page: OpenPage, server: Server, clients: Clients, images: ImageMaker, hostile_image: Image, tmp_path: Path
) -> None:
    page = open_page()
    log_in(page, server)

    # The build is followed live: its lines come while it runs, and mean nothing but themselves.
    page.goto(f"/#/images/{hostile_image.name}")
    log = page.get_by_role("log")
    expect(log).to_contain_text(HOSTILE)
    expect(log).to_contain_text("turned")
    assert log.locator("img").count() == 0
    assert "\x1b" not in log.inner_text()
    assert "\u202e" not in log.inner_text()
    wait_for_state(page, "created")
    expect(log).to_contain_text("SUCCESSFUL")
    take(page, "image")

    # A launch that the list and the page tell without being asked.
    watching = open_page()
    log_in(watching, server)
    microvm_id = launch(page, hostile_image.name)
    row = watching.get_by_role("row", name=re.compile(microvm_id.removeprefix("microvm-")[:8]))
    expect(row).to_contain_text("running")
    expect(page.get_by_role("img", name=re.compile("Memory: [0-9]"))).to_be_visible()
    expect(page.locator("table.timeline")).to_contain_text("RunMicrovm")

    _use_the_terminal(page)
    _move_files(page, tmp_path)

    # Checkpoint, suspend, resume, roll back.
    page.get_by_role("link", name="Overview").click()
    page.get_by_role("button", name="Checkpoint").click()
    page.get_by_role("button", name="Take it").click()
    expect(page.locator(".tree")).to_contain_text("version 2.0")
    page.get_by_role("button", name="Suspend").click()
    wait_for_state(page, "suspended")
    expect(row).to_contain_text("suspended")
    page.get_by_role("button", name="Resume").click()
    wait_for_state(page, "running")
    page.get_by_role("button", name="Fork").click()
    page.get_by_label("How many").fill("2")
    page.get_by_role("dialog").get_by_role("button", name="Fork").click()
    forks = page.locator(".tree ul .tree-node a.id")
    expect(forks).to_have_count(2)
    expect(page.locator(".tree ul .state", has_text="running")).to_have_count(2)
    page.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("table.timeline")).to_contain_text("RestoreMicrovm")
    wait_for_state(page, "running")
    take(page, "microvm")

    # The end.
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    wait_for_state(page, "terminated")
    expect(row).to_have_count(0)
    for fork in forks.all():
        fork_id = f"{fork.get_attribute('title')}"
        clients.microvms.terminate_microvm(microvmIdentifier=fork_id)
    assert page.title() != "owned"


def _use_the_terminal(page: Page) -> None:
    page.get_by_role("link", name="Terminal").click()
    shell = page.locator(".xterm-rows")
    expect(page.get_by_text("a shell in the application's container")).to_be_visible()
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type("echo $((6*7))\n")
    expect(shell).to_contain_text("42")
    # A guest names the window, and asks for a copy: neither is done.
    page.keyboard.type("printf '\\033]0;owned\\007\\033]52;c;b3duZWQ=\\007done\\n'\n")
    expect(shell).to_contain_text("done")
    take(page, "terminal")


def _move_files(page: Page, directory: Path) -> None:
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(f'echo content > "/tmp/{HOSTILE.replace("/", "")}"; echo $((6*8))\n')
    expect(page.locator(".xterm-rows")).to_contain_text("48")  # who leaves the page hangs up on its shell
    page.get_by_role("link", name="Files").click()
    page.get_by_role("button", name="tmp/").click()
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    assert page.locator("table img").count() == 0
    sent = directory / "sent.txt"
    sent.write_text("over and back")
    page.get_by_label("Files to upload").set_input_files(sent)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("link", name="sent.txt")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="sent.txt").click()
    assert Path(download.value.path()).read_text() == "over and back"
    take(page, "files")


@pytest.mark.both_engines
def test_the_keyboard_alone_is_enough(open_page: OpenPage, server: Server, probe_image: Image) -> None:
    page = open_page()
    page.goto("/")
    credentials = server.credentials()
    expect(page.get_by_label("Access key id")).to_be_focused()
    page.keyboard.type(credentials["aws_access_key_id"])
    page.keyboard.press("Tab")
    page.keyboard.type(credentials["aws_secret_access_key"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="MicroVMs")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Launch")).to_be_focused()
    page.keyboard.press("Enter")
    image = page.get_by_label("Image", exact=True)
    expect(image).to_be_focused()
    expect(image.get_by_role("option", name=re.compile(probe_image.name))).to_be_attached()
    page.keyboard.type(probe_image.name)
    expect(image).to_have_value(probe_image.name)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Launch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(image).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")  # at once: no key is lost while a dialog goes
    expect(image).to_be_focused()
    _tab_to(page, "Cancel")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Launch")).to_be_focused()
    page.keyboard.press("Enter")
    expect(image.get_by_role("option", name=re.compile(probe_image.name))).to_be_attached()
    page.keyboard.type(probe_image.name)
    expect(image).to_have_value(probe_image.name)
    _tab_to(page, "Launch")
    page.keyboard.press("Enter")
    wait_for_state(page, "running")
    _tab_to(page, "Terminate")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_for_state(page, "terminated")


def _tab_to(page: Page, name: str) -> None:
    """Press Tab until a button of a name has the focus, which must be seen."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.locator("button:focus-visible")
        if focused.count() and focused.inner_text().strip() == name:
            assert focused.evaluate("element => getComputedStyle(element).outlineStyle") != "none"
            return
    raise AssertionError(f"no button {name} is reached")


@pytest.mark.parametrize("name", SCREENS)
def test_pages_have_no_barriers_and_fit_their_screen(
    open_page: OpenPage, server: Server, axe: str, probe_image: Image, name: str
) -> None:
    screen: Screen = SCREENS[name]
    page = open_page(screen)
    page.goto("/")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    places = [("login", "/")]
    assert find_barriers(page, axe) == []
    log_in(page, server)
    microvm_id = launch(page, probe_image.name)
    places = [
        ("microvms", "/#/microvms"), ("images", "/#/images"), ("image", f"/#/images/{probe_image.name}"),
        ("microvm", f"/#/microvms/{microvm_id}"), ("files", f"/#/microvms/{microvm_id}/files"),
        ("terminal", f"/#/microvms/{microvm_id}/terminal"), ("log", f"/#/microvms/{microvm_id}/log"),
        ("usage", "/#/usage"), ("audit", "/#/audit"), ("server", "/#/server"), ("nowhere", "/#/nowhere"),
    ]  # fmt: skip
    barriers = {}
    for place, path in places:
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator(".hint")).to_have_count(0)
        page.wait_for_timeout(500)
        take(page, f"{place}-{name}")
        if found := find_barriers(page, axe):
            barriers[place] = found
        assert has_room(page), f"{place} is wider than {screen.width} pixels"
    page.goto("/#/microvms")
    page.get_by_role("button", name="Launch").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    take(page, f"launch-{name}")
    if found := find_barriers(page, axe):
        barriers["launch"] = found
    page.keyboard.press("Escape")
    page.goto(f"/#/microvms/{microvm_id}")
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    wait_for_state(page, "terminated")
    assert barriers == {}


def test_an_application_is_opened_by_a_link(open_page: OpenPage, server: Server, probe_image: Image) -> None:
    page = open_page()
    log_in(page, server)
    launch(page, probe_image.name)
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_role("button", name="Make a token").click()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open the page").click()
    shown = opened.value
    shown.wait_for_url(re.compile(r"^https://[0-9a-f-]+\.lambda-microvm\.[^/]+/$"))  # no token is left in it
    expect(shown.locator("body")).to_contain_text("hostname")
    shown.reload()
    expect(shown.locator("body")).to_contain_text("hostname")
    own = shown.evaluate("() => document.cookie")
    assert own == ""  # the application's scripts do not see it
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Terminate").click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").click()
    wait_for_state(page, "terminated")


def test_a_link_of_the_command_line_logs_in_once(open_page: OpenPage, server: Server) -> None:
    command = server.command("console")
    link = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=True).stdout.strip()
    page = open_page()
    page.goto(link)
    expect(page.get_by_role("heading", name="MicroVMs")).to_be_visible()
    assert "enter" not in page.url
    page.reload()
    expect(page.get_by_role("heading", name="MicroVMs")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
