"""aiobotocore: botocore for asyncio, with endpoints asked by aiohttp."""

from __future__ import annotations

import pytest

from support.images import Image
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "aiobotocore"


def test_three_microvms_live_at_once(desk: Desk, probe_image: Image) -> None:
    """Three microVMs live at once.

    Run, request by the endpoint's name, suspend, resume, request, terminate; pages of microVMs; S3; STS; a modelled
    exception.
    """
    python = install_python(read_clients()[CLIENT]) / "python"
    seen = desk.script(python, "life_aiobotocore.py", probe_image.arn)
    assert [state for _, state in seen["lives"]] == ["TERMINATED"] * 3
    assert all(after == before + 1 for (before, after), _ in seen["lives"])
    assert seen["pages"] >= 3
    assert (seen["size"], seen["refused"]) == (1000, "ResourceNotFoundException")
    assert seen["account"] == desk.environment["EMBERBOX_ACCOUNT_ID"]
