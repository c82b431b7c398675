"""capo: an SDK with an HTTP stack and shapes of its own, made from Smithy models."""

from __future__ import annotations

import pytest

from support.images import BUILD_ROLE, Image, ImageMaker, make_zip, probe_files
from support.third_party import Desk, install_python, read_clients

pytestmark = [pytest.mark.clients, pytest.mark.vm]

CLIENT = "capo-lambda-microvms"


def test_the_whole_service_is_understood(desk: Desk, probe_image: Image, images: ImageMaker) -> None:
    """Twenty operations on images, builds, versions, microVMs, tokens and tags.

    With a request by the endpoint's name, pages by its own iterators, and two modelled exceptions.
    """
    python = install_python(read_clients()[CLIENT]) / "python"
    artifact = images.upload(make_zip(probe_files()))
    seen = desk.script(python, "life_capo.py", probe_image.arn, images.base_arn, BUILD_ROLE, artifact)
    assert len(seen["names"]) == 20
    assert seen["hostname"] == seen["id"]
    assert seen["id"] in seen["listed"]
    assert probe_image.arn in seen["images"]
    assert (seen["built"], seen["tags"]) == ("CREATED", {"by": "capo"})
    assert seen["errors"] == ["ResourceNotFoundException", "ValidationException"]
