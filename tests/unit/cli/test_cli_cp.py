"""`emberbox cp`: which side is in a microVM, and how local errors read."""

from __future__ import annotations

import pytest

from emberbox.cli.cp import split
from emberbox.model.errors import HostError


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("microvm-1:/a", ("microvm-1", "/a")),
        ("microvm-1:a:b", ("microvm-1", "a:b")),
        ("./a:b", None),
        ("/a:b", None),
        ("a/b:c", None),
        ("plain", None),
        (":x", None),
    ],
)
def test_a_microvm_is_told_from_a_local_path(argument: str, parts: tuple[str, str] | None) -> None:
    assert split(argument) == parts


def test_a_microvm_without_a_path_is_refused() -> None:
    with pytest.raises(HostError, match="which path"):
        split("microvm-1:")
