"""What the operator's table puts in place of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.images.substitutes import Substitutes, read_substitutes
from emberbox.model.errors import HostError

TABLE = Substitutes(
    {
        "docker.io/*": "mirror.test:5000/hub/*",
        "docker.io/library/*": "mirror.test:5000/official/*",
        "python:3.12": "emberbox/debian:12",
        "ghcr.io/company/*": "ghcr.io/company/*",
        "public.ecr.aws/lambda/python": "mirror.test:5000/python:3.12",
    }
)


@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("python:3.12", "emberbox/debian:12"),
        ("docker.io/library/python:3.12", "emberbox/debian:12"),
        ("python:3.13", "mirror.test:5000/official/python:3.13"),
        ("somebody/app", "mirror.test:5000/hub/somebody/app:latest"),
        ("docker.io/somebody/app@sha256:" + "0" * 64, "mirror.test:5000/hub/somebody/app@sha256:" + "0" * 64),
        ("ghcr.io/company/x/y:1", "ghcr.io/company/x/y:1"),
        ("public.ecr.aws/lambda/python:latest", "mirror.test:5000/python:3.12"),
        ("ghcr.io/companyx/y:1", None),
        ("public.ecr.aws/lambda/python:3.12", None),
        ("Not A Name", None),
    ],
)
def test_the_longest_row_that_fits_counts(name: str, used: str | None) -> None:
    assert TABLE.find(name) == used


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    path.write_text('"a.test/*" = "b.test/x/*"\n')
    assert read_substitutes(str(path)).find("a.test/y:1") == "b.test/x/y:1"
    assert read_substitutes("").is_empty


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("no toml", "is not as it should be"),
        ("a = 1\n", "each row"),
        ('"a/*" = "b.test/x"\n', "must both end"),
        ('"a b" = "x"\n', "name of an image"),
        ('[a]\n"b" = "c"\n', "each row"),
    ],
)
def test_a_file_in_another_form_is_an_error(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "table.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(HostError, match=said) as caught:
        read_substitutes(str(path))
    assert "EMBERBOX_STAND_INS" in str(caught.value)
