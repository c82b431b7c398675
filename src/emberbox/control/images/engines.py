"""Which engine the versions of an image are for, and whether it can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emberbox.control.requests.tags import ENGINE_TAG, engine_of
from emberbox.machine.base import Engines
from emberbox.model.engines import ARM64_ENGINE, ENGINE_NAMES
from emberbox.model.errors import ValidationError


def choose_engine(tags: Mapping[str, str], architectures: Sequence[str] | None, emulated: Sequence[str]) -> str:
    """Return the engine that a version is for, by its name; empty where it is the server's own.

    What the machine itself runs is never emulated: so where several architectures are named, and its own is among them,
    that one is built.

    Args:
        tags: the image's.
        architectures: those that are asked for.
        emulated: those that are emulated here.
    """
    asked = architectures or ()
    if asked and all(one in emulated for one in asked):
        return ARM64_ENGINE
    return engine_of(tags)


async def find_refusal(engines: Engines, name: str) -> ValidationError | None:
    """Return what is to be answered where versions for this engine cannot run here; None where they can.

    It is asked for before anything is looked up that must not change before it is stored; an engine that has not been
    used yet takes a moment. A value that no engine has is refused with the other rules of tags.

    Args:
        engines: what there is.
        name: what `choose_engine` has chosen.
    """
    if name not in (*ENGINE_NAMES, ARM64_ENGINE) or not (problem := await engines.find_problem(name)):
        return None
    if name == ARM64_ENGINE:
        return ValidationError(f"No MicroVM for ARM_64 can run here: {problem}")
    return ValidationError(
        f"No MicroVM can run on the engine {name} here, which the tag '{ENGINE_TAG}' asks for: {problem}. "
        "Leave the tag out for the server's own engine"
    )
