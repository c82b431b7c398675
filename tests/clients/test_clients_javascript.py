"""AWS's SDK for JavaScript, with endpoints asked by fetch."""

from __future__ import annotations

import shutil

import pytest

from support.images import Image
from support.third_party import CLIENTS, Desk, install_javascript

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "AWS SDK for JavaScript"


def test_a_microvm_and_the_services_beside_it(desk: Desk, probe_image: Image) -> None:
    """A microVM and the services beside it.

    Run, request by the endpoint's name with Node's fetch, suspend, resume, request, terminate, pages; an object put
    from a stream and read back; STS; log events.
    """
    place = desk.directory / "javascript"
    place.mkdir()
    (place / "node_modules").symlink_to(install_javascript(CLIENTS / "package.json") / "node_modules")
    for name in ("package.json", "scripts/life.mjs"):
        shutil.copy(CLIENTS / name, place)
    seen = desk.script("node", str(place / "life.mjs"), probe_image.arn, f"/aws/lambda-microvms/{probe_image.name}")
    assert seen["counts"][1] == seen["counts"][0] + 1
    assert (seen["state"], seen["listed"].count(seen["id"])) == ("TERMINATED", 1)
    assert (seen["size"], seen["account"]) == (140_000, desk.environment["EMBERBOX_ACCOUNT_ID"])
    assert seen["events"] > 0
