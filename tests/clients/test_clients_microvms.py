"""microvms: an SDK in Rust that knows AWS's own host names only."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.guests import Microvm
from support.images import Image
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "microvms"


def test_a_microvm_lives_by_awss_own_names(aws_desk: Desk, launch: Callable[..., Microvm], probe_image: Image) -> None:
    """The life of a microVM by AWS's own names.

    With `emberbox trust --aws-names` and no AWS_ENDPOINT_URL: get, list, suspend, resume, terminate with waits, images,
    versions and builds, adopting a microVM.
    """
    python = install_python(read_clients()[CLIENT]) / "python"
    microvm = launch(probe_image)
    seen = aws_desk.script(python, "life_microvms.py", microvm.id, microvm.endpoint, probe_image.arn)
    assert (seen["state"], seen["adopted"]) == ("RUNNING", True)
    assert microvm.id in seen["listed"]
    assert probe_image.arn in seen["images"]
    assert seen["versions"] >= 1
    assert seen["builds"] >= 1
    assert "not found" in seen["refused"].lower()
