"""Names of images in registries."""

from __future__ import annotations

import pytest

from emberbox.model.errors import ValidationError
from emberbox.model.image_references import ImageReference, is_image_uri, parse_image_uri, parse_reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("python", ImageReference("docker.io", "library/python", "latest")),
        ("python:3.12-slim", ImageReference("docker.io", "library/python", "3.12-slim")),
        ("me/app", ImageReference("docker.io", "me/app", "latest")),
        ("ghcr.io/a/b/c:v1", ImageReference("ghcr.io", "a/b/c", "v1")),
        ("localhost/x", ImageReference("localhost", "x", "latest")),
        ("127.0.0.1:5000/x:1", ImageReference("127.0.0.1:5000", "x", "1")),
        (f"r.test/x@{DIGEST}", ImageReference("r.test", "x", "latest", DIGEST)),
        (f"r.test/x:1@{DIGEST}", ImageReference("r.test", "x", "1", DIGEST)),
        ("r.test/a_b__c-d.e", ImageReference("r.test", "a_b__c-d.e", "latest")),
    ],
)
def test_a_name_is_read(text: str, reference: ImageReference) -> None:
    assert parse_reference(text) == reference
    for scheme in ("oci://", "docker://"):
        assert is_image_uri(scheme + text)
        assert parse_image_uri(scheme + text) == reference
    assert parse_reference(str(reference)).version == reference.version


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "x/", "r.test/", "r.test/X", "r.test/../x", "r.test//x", "r.test/x:", "r.test/x:a/b", "r.test/x:.a",
        "r.test/x@", "r.test/x@sha256:00", f"r.test/x@{DIGEST}0", "user@r.test/x", "r.test:port/x", "r.test/x?y",
        "r.test/x#y", "-r.test/x", "R.test/x", "[::1]:80/x", "r.test/" + "x" * 256, "oci:/x", "r.test/x\n",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="CodeArtifact URI must name an image in the format: oci://"):
        parse_image_uri(f"oci://{text}")
