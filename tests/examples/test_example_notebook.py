"""examples/notebook: Jupyter's page by a link, and a kernel that a suspend does not change."""

from __future__ import annotations

import ast
import json
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.sync.client import connect

from emberbox_sdk import Client, History, Sandbox, State
from support.examples import run_example

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

PORT = 8080
ROWS = 1000


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, str]:
    """What the example found before and after the suspend; it resumes at once."""
    result = tmp_path_factory.mktemp("notebook") / "result.json"
    run_example("notebook", environment, "--rows", str(ROWS), "--out", str(result))
    found: dict[str, str] = json.loads(Path(result).read_text())
    return found


def test_process_variables_and_data_frame_are_the_same_after_a_suspend(facts: dict[str, str]) -> None:
    same, process_id, rows, sold = ast.literal_eval(facts["before"])
    assert (same, rows, sold) == (True, 3 * ROWS, sum(range(1, 3 * ROWS, 3)))
    assert process_id > 1
    assert facts["after"] == facts["before"]


def test_its_microvm_was_suspended_and_is_gone(facts: dict[str, str], sdk: Client) -> None:
    assert State.SUSPENDED in {event.state for event in History(sdk, facts["microvm"]).events()}
    assert facts["microvm"] not in {info.id for info in Sandbox.list(client=sdk)}


def test_the_page_and_its_websocket_open_by_the_link(facts: dict[str, str], sdk: Client) -> None:
    """As a browser does it: the link gives a cookie, and the page's requests have that and its own origin."""
    with Sandbox.create("example-notebook", client=sdk) as sandbox:
        port = sandbox.url(PORT)
        port.wait(path="/tree")
        host = urlsplit(port.public_url).netloc
        gateway = f"https://{sdk.config.gateway}"
        of_page = {"Host": host, "Sec-Fetch-Site": "same-origin"}
        with httpx2.Client(verify=sdk.config.tls(), headers=of_page, timeout=120) as browser:
            assert browser.get(f"{gateway}/tree").status_code == httpx2.codes.FORBIDDEN
            entered = browser.get(port.link().replace(f"https://{host}", gateway))
            assert entered.status_code == httpx2.codes.SEE_OTHER
            cookie = entered.headers["set-cookie"].partition(";")[0]
            page = browser.get(f"{gateway}/tree", headers={"Cookie": cookie})
            assert page.status_code == httpx2.codes.OK
            assert "Jupyter" in page.text
            guard = page.cookies["_xsrf"]
            headers = {"Cookie": f"{cookie}; _xsrf={guard}", "X-XSRFToken": guard, "Origin": f"https://{host}"}
            kernel = browser.post(f"{gateway}/api/kernels", headers=headers, json={}).json()["id"]
        address, _, number = sdk.config.gateway.rpartition(":")
        with connect(
            f"wss://{host}/api/kernels/{kernel}/channels",
            address=(address, int(number)),
            ssl=sdk.config.tls(),
            additional_headers={"Cookie": headers["Cookie"]},
            origin=f"https://{host}",  # type: ignore[arg-type]
            proxy=None,
            open_timeout=120,
        ) as socket:
            header = {"msg_id": uuid.uuid4().hex, "msg_type": "kernel_info_request", "session": "s", "username": ""}
            message = {"header": header, "parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"}
            socket.send(json.dumps(message))
            kinds = set[str]()
            while "kernel_info_reply" not in kinds:
                kinds.add(json.loads(socket.recv(timeout=120))["msg_type"])
