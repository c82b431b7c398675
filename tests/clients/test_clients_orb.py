"""orb-py: a broker that keeps requests and machines, and launches microVMs as one kind of machine."""

from __future__ import annotations

import json
import re

import pytest

from support.aws import Clients
from support.images import Image
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "orb-py"


def test_machines_are_requested_and_returned(desk: Desk, clients: Clients, probe_image: Image) -> None:
    """Machines are requested, listed and returned.

    `orb init`, `templates generate` with its example for microVMs, `templates list`, `machines request` of two at once,
    `machines list`, `requests list`, `machines return`.
    """
    orb = install_python(read_clients()[CLIENT]) / "orb"
    place = desk.directory / "orb"
    more = {"ORB_CONFIG_DIR": str(place / "config")}
    region = desk.environment["AWS_REGION"]
    desk.run(orb, "init", "--non-interactive", "--provider-type", "aws", "--aws-region", region, more=more)
    desk.run(orb, "templates", "generate", "--provider-api", "MicroVM", more=more)
    path = place / "config/aws_templates.json"
    content = json.loads(path.read_text())
    (template,) = content["templates"]
    template["machine_image"] = probe_image.arn
    account = desk.environment["EMBERBOX_ACCOUNT_ID"]
    template["metadata"]["execution_role_arn"] = f"arn:aws:iam::{account}:role/orb"
    path.write_text(json.dumps(content))
    assert "MicroVM-Worker" in desk.run(orb, "templates", "list", more=more)

    before = _running(clients)
    desk.run(orb, "machines", "request", "MicroVM-Worker", "2", "--wait", more=more)
    launched = _running(clients) - before
    assert len(launched) == 2
    listed = desk.run(orb, "machines", "list", "--format", "json", more=more)
    assert launched <= set(re.findall(r"microvm-[0-9a-f-]{36}", listed))
    assert desk.run(orb, "requests", "list", more=more)
    desk.run(orb, "machines", "return", *sorted(launched), "--force", more=more)
    assert not launched & _running(clients)


def _running(clients: Clients) -> set[str]:
    pages = clients.microvms.get_paginator("list_microvms").paginate()
    ended = ("TERMINATING", "TERMINATED")
    return {item["microvmId"] for page in pages for item in page["items"] if item["state"] not in ended}
