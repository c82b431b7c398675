"""rayito: sandboxes over gRPC, whose agent in the guest is not on the registries; what it does without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.guests import Microvm
from support.images import Image
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "rayito"


@pytest.fixture(scope="module")
def rayito(desk: Desk) -> Path:
    return install_python(read_clients()[CLIENT]) / "rayito"


def test_it_lists_and_kills_what_runs(
    desk: Desk, rayito: Path, launch: Callable[..., Microvm], probe_image: Image
) -> None:
    """`rayito sandbox list`, `sandbox kill`, `image list`, the versions of an image, `image sizes`."""
    microvm = launch(probe_image)
    assert microvm.id in desk.run(rayito, "--json", "sandbox", "list")
    images = json.loads(desk.run(rayito, "--json", "image", "list"))
    assert probe_image.name in json.dumps(images)
    assert json.loads(desk.run(rayito, "--json", "image", "list", probe_image.name))
    assert json.loads(desk.run(rayito, "--json", "image", "sizes"))
    assert microvm.id in desk.run(rayito, "--json", "sandbox", "kill", microvm.id)
    microvm.wait_ended()
