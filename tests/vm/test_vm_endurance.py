"""Files and databases over suspends, nothing synced before: byte for byte as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import shell
from support.endurance import Workload
from support.guests import Microvm
from support.images import Image
from support.server import Server

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
CYCLES = 5


def test_files_and_databases_survive_suspends_under_load(launch: Launch, flask_image: Image, server: Server) -> None:
    """Written, renamed, deleted, mapped and half uploaded files and a database in WAL mode, suspended at any moment."""
    connectors = shell.ingress(server.endpoints["region"], "HTTP_INGRESS", "SHELL_INGRESS")
    microvm = launch(flask_image, ingressNetworkConnectors=connectors)
    work = Workload(microvm)
    steps = 0
    for _ in range(CYCLES):
        microvm.suspend()
        microvm.resume()
        verdict = work.check()
        assert verdict["wrong"] == []
        assert verdict["steps"] > steps
        steps = verdict["steps"]
