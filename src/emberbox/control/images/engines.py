"""Whether an image can have the engine that its tag names."""

from __future__ import annotations

from collections.abc import Mapping

from emberbox.control.requests.tags import ENGINE_TAG, engine_of
from emberbox.machine.base import Engines
from emberbox.model.engines import ENGINE_NAMES
from emberbox.model.errors import ValidationError


async def find_refusal(engines: Engines, tags: Mapping[str, str]) -> ValidationError | None:
    """Return what is to be answered where an image with these tags cannot run here; None where it can.

    It is asked for before anything is looked up that must not change before it is stored; an engine that has not been
    used yet takes a moment. A value that no engine has is refused with the other rules of tags.

    Args:
        engines: what there is.
        tags: the image's.
    """
    name = engine_of(tags)
    if name not in ENGINE_NAMES or not (problem := await engines.find_problem(name)):
        return None
    return ValidationError(
        f"No MicroVM can run on the engine {name} here, which the tag '{ENGINE_TAG}' asks for: {problem}. "
        "Leave the tag out for the server's own engine"
    )
