"""orb: a broker of machines, by its command, its SDK and its REST server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.aws import Clients
from support.images import BUILD_ROLE, Image
from support.third_party import Desk, fetch_name_module, install_python, read_clients
from support.waiting import wait_for

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "orb-py"
TEMPLATE = "sandboxes"


@pytest.fixture(scope="module")
def programs() -> Path:
    return install_python(read_clients()[CLIENT])


@pytest.fixture(scope="module")
def orb_desk(desk: Desk, programs: Path, probe_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk where orb is set up and has a template for microVMs."""
    desk = Desk(desk.server, tmp_path_factory.mktemp("orb"), fetch_name_module())
    desk.environment["ORB_ROOT_DIR"] = str(desk.directory / "root")
    metadata = {
        "execution_role_arn": BUILD_ROLE,
        "idle_policy": {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 300, "autoResumeEnabled": True},
        "maximum_duration_in_seconds": 900,
        "logging": {"cloudWatch": {"logGroup": "/orb/sandboxes"}},
        "run_hook_payload": "by orb",
    }
    kind = {"template_id": TEMPLATE, "name": TEMPLATE, "provider_api": "MicroVM", "provider_type": "aws"}
    template = {**kind, "machine_image": probe_image.arn, "max_machines": 5, "metadata": metadata}
    (desk.directory / "template.json").write_text(json.dumps(template))
    orb = programs / "orb"
    desk.run(
        orb, "init", "--non-interactive", "--provider-type", "aws", "--aws-region", desk.server.endpoints["region"]
    )
    assert "MicroVM-Worker" in desk.run(orb, "templates", "generate") + desk.run(
        orb, "templates", "list", "--limit", "99"
    )
    desk.run(orb, "templates", "create", "--file", "template.json")
    return desk


def test_machines_are_requested_and_returned(orb_desk: Desk, programs: Path, clients: Clients) -> None:
    """Machines are requested and returned.

    `orb init`, `providers list`, `providers health`, `infrastructure discover`, `templates generate`, `validate`,
    `create`, `list`, `show`; `machines request` (with a role, an idle policy, a duration, a log group and a payload for
    the hook), `requests status`, `requests list`, `machines list`, `show`, `status`, `return`.
    """

    def orb(*arguments: str) -> Any:
        printed = orb_desk.run(programs / "orb", *arguments)
        return json.loads(printed[printed.index("{\n") :])

    assert [row["type"] for row in orb("providers", "list")["providers"]] == ["aws"]
    assert orb("providers", "health")["health"]["health"] == "healthy"
    assert orb("infrastructure", "discover")["status"] == "success"
    assert orb("templates", "validate", "--file", "template.json")["status"] == "validated"
    assert TEMPLATE in [row["template_id"] for row in orb("templates", "list", "--limit", "100")["templates"]]
    asked = orb("machines", "request", TEMPLATE, "2")["request_id"]
    ids = wait_for("the request is complete", lambda: _machines_of(orb("requests", "status", asked)), 120)
    assert [clients.microvms.get_microvm(microvmIdentifier=one)["state"] for one in ids] == ["RUNNING", "RUNNING"]
    assert asked in [row["request_id"] for row in orb("requests", "list")["requests"]]
    assert set(ids) <= {row["machine_id"] for row in orb("machines", "list")["machines"]}
    assert orb("machines", "show", ids[0])["provider_data"]["maximum_duration_in_seconds"] == 900
    assert orb("machines", "status", ids[0])["machines"][0]["status"] == "running"
    assert orb("machines", "return", *ids)["request_id"].startswith("ret-")
    for one in ids:
        _wait_terminated(clients, one)


def test_the_sdk(orb_desk: Desk, programs: Path, clients: Clients) -> None:
    """By the Python SDK: templates, a machine requested, its status, shown and returned."""
    seen = orb_desk.script(programs / "python", "life_orb.py", TEMPLATE)
    assert TEMPLATE in seen["templates"]
    assert (seen["status"], seen["shown"]["status"]) == ("complete", "running")
    _wait_terminated(clients, seen["machine"])


def test_the_rest_server(orb_desk: Desk, programs: Path, clients: Clients) -> None:
    """By its REST server, with a bearer token: a template, a machine requested, its status, shown and returned."""
    seen = orb_desk.script(programs / "python", "rest_orb.py", TEMPLATE)
    assert (seen["service"], seen["known"]) == ("open-resource-broker", TEMPLATE)
    assert seen["shown"]["machine_id"] == seen["machine"]
    _wait_terminated(clients, seen["machine"])


def _machines_of(answer: dict[str, Any]) -> list[str] | None:
    (request,) = answer["requests"]
    return [row["machine_id"] for row in request["machines"]] if request["status"] == "complete" else None


def _wait_terminated(clients: Clients, microvm_id: str) -> None:
    def is_terminated() -> bool:
        return bool(clients.microvms.get_microvm(microvmIdentifier=microvm_id)["state"] == "TERMINATED")

    wait_for(f"{microvm_id} is terminated", is_terminated, 120)
