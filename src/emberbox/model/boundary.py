"""What keeps one guest from another and from the machine, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Boundary(StrEnum):
    """What a guest would have to break to get out."""

    PROCESSOR = "processor"
    USER_SPACE_KERNEL = "user-space kernel"
    NONE = "none"


BOUNDARIES: Final[Mapping[str, Boundary]] = {
    "kvm": Boundary.PROCESSOR,
    "systrap": Boundary.USER_SPACE_KERNEL,
    "tcg": Boundary.NONE,
}
"""The boundary of each accelerator (`vmm/engine.py`)."""

_WORDS: Final[Mapping[Boundary, str]] = {
    Boundary.PROCESSOR: "KVM; the boundary is the processor's",
    Boundary.USER_SPACE_KERNEL: "gVisor; the boundary is a user-space kernel",
    Boundary.NONE: (
        "no KVM: microVMs are emulated (TCG), which is not a security boundary; run only code that you trust"
    ),
}


def boundary_of(accelerator: str) -> Boundary:
    """Return the boundary around guests that run with an accelerator; one that is not known counts as none."""
    return BOUNDARIES.get(accelerator, Boundary.NONE)


def describe_boundary(accelerator: str) -> str:
    """Return in plain words what holds guests that run with an accelerator."""
    return _WORDS[boundary_of(accelerator)]
