"""What is told of the boundary around guests."""

from __future__ import annotations

import pytest

from emberbox.model.boundary import BOUNDARIES, Boundary, boundary_of, describe_boundary
from emberbox.vmm.engine import NAMES


def test_every_accelerator_has_one() -> None:
    assert BOUNDARIES.keys() == NAMES.keys()


@pytest.mark.parametrize(
    ("accelerator", "boundary", "words"),
    [
        ("kvm", Boundary.PROCESSOR, "boundary is the processor's"),
        ("systrap", Boundary.USER_SPACE_KERNEL, "boundary is a user-space kernel"),
        ("tcg", Boundary.NONE, "not a security boundary"),
        ("another", Boundary.NONE, "not a security boundary"),
    ],
)
def test_it_is_told_in_plain_words(accelerator: str, boundary: Boundary, words: str) -> None:
    assert boundary_of(accelerator) is boundary
    assert words in describe_boundary(accelerator)
