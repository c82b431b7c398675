"""The templates that E2B has for everybody, as they are made here: of the local Debian base and Debian's packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emberbox.model.templates import Recipe, Step, StepKind

BASE_IMAGES: Final = frozenset({"e2bdev/base", "e2bdev/base:latest"})
"""What E2B's builder begins with where nothing is said; here the template `base` stands for it."""

_DEBIAN: Final = "emberbox/debian:12"
_TOOLS: Final = "bash ca-certificates curl git iproute2 procps python3 python3-pip python3-venv sudo"
_SCIENCE: Final = "python3-matplotlib python3-numpy python3-pandas python3-pil"


def _install(packages: str) -> Step:
    command = (
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "
        f"{packages} && apt-get clean"
    )
    return Step(StepKind.RUN, (command, "root"))


_SUDO: Final = Step(
    StepKind.RUN,
    ("echo 'user ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/user && chmod 440 /etc/sudoers.d/user", "root"),
)
_BASE: Final = (_install(_TOOLS), _SUDO)

STANDARD_RECIPES: Final[Mapping[str, Recipe]] = {
    "base": Recipe(_DEBIAN, _BASE),
    "code-interpreter-v1": Recipe(_DEBIAN, (*_BASE, _install(_SCIENCE))),
}
