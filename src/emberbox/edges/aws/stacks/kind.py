"""What every kind of resource is to stacks: its properties, which of them are fixed, and how it comes and goes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from botocore.model import Shape

from emberbox.control.stacks.kinds import Job, Made, Tell
from emberbox.model.errors import ServiceError, ValidationError
from emberbox.model.stacks.template import Values
from emberbox.time_limits import limit_s

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 2.0
_RANDOM: Final = 12


class StabilityError(ServiceError):
    """What was made is not what it was to be."""

    code = "NotStabilized"


@dataclass(frozen=True, slots=True)
class Terms:
    """The properties of a kind.

    Attributes:
        taken: those that are acted on.
        needed: those that must be there.
        fixed: those that only another resource in its place can have otherwise.
        name: the one by which a template chooses its name; empty where it has none.
        name_max: characters of a name.
    """

    taken: frozenset[str]
    needed: frozenset[str] = frozenset()
    fixed: frozenset[str] = frozenset()
    name: str = ""
    name_max: int = 64


class Kind(Protocol):
    """A kind of resources; see `ResourceKinds` for what its methods do."""

    @property
    def terms(self) -> Terms:
        """Its properties."""
        ...

    async def create(self, job: Job, tell: Tell) -> Made:
        """Make one."""
        ...

    async def update(self, job: Job, physical_id: str, before: Values) -> Made:
        """Change one."""
        ...

    async def delete(self, job: Job, physical_id: str) -> None:
        """Delete one; what is gone already is no error."""
        ...


def chosen_name(terms: Terms, job: Job) -> str:
    """Return the name that a resource gets: the template's, or one of stack, logical id and random letters."""
    given = job.properties.get(terms.name) if terms.name else None
    if given:
        return str(given)
    digest = hashlib.sha256(job.token.encode()).digest()
    random = base64.b32encode(digest).decode()[:_RANDOM]
    room = terms.name_max - len(random) - 2
    logical = job.logical_id[: max(room - len(job.stack_name), room // 2)]
    return f"{job.stack_name[: room - len(logical)]}-{logical}-{random}"


def is_ours(terms: Terms, job: Job) -> bool:
    """Say whether what has a resource's name already was made by the step that a killed server has begun.

    A name with random letters of the step can be nobody else's; one that the template has chosen can.
    """
    return job.is_repeat and not job.properties.get(terms.name)


def merged_tags(job: Job) -> dict[str, str]:
    """Return a resource's tags: the stack's, and its own, which count more."""
    own = {str(tag["Key"]): str(tag.get("Value", "")) for tag in job.properties.get("Tags") or ()}
    return {**job.tags, **own}


async def waits() -> AsyncIterator[None]:
    """Yield at once, and then after pauses that grow."""
    pause = limit_s(FIRST_WAIT_S)
    while True:
        yield
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, limit_s(LONGEST_WAIT_S))


# --- from a template's words to an operation's


def as_parameters(shape: Shape, values: Values, place: str = "") -> dict[str, Any]:
    """Return properties as an operation's input has them. Any: see `Parameters`.

    Templates spell members with a capital, may write numbers and truths as texts, and have pairs in place of maps.

    Args:
        shape: of the input, or of a structure in it.
        values: the properties.
        place: where they are, for messages.

    Raises:
        ValidationError: a property is not known, or is of another type.
    """
    names = {name[:1].upper() + name[1:]: name for name in shape.members}
    if unknown := sorted(values.keys() - names.keys()):
        raise ValidationError(f"extraneous key [{place}{unknown[0]}] is not permitted")
    return {
        names[name]: as_value(shape.members[names[name]], value, f"{place}{name}")
        for name, value in values.items()
        if value is not None
    }


def as_value(shape: Shape, value: Any, place: str) -> Any:
    """Return a property's value as an input's member has it.

    Raises:
        ValidationError: see `as_parameters`.
    """
    match shape.type_name:
        case "structure":
            _check(isinstance(value, Mapping), place, "an object")
            return as_parameters(shape, value, f"{place}.")
        case "list":
            _check(isinstance(value, list), place, "a list")
            return [as_value(shape.member, item, place) for item in value]
        case "map":
            return {name: as_value(shape.value, item, place) for name, item in _pairs(value, place).items()}
        case "integer" | "long":
            text = str(value)
            _check(not isinstance(value, bool) and text.lstrip("-").isdecimal(), place, "a whole number")
            return int(text)
        case "boolean":
            _check(str(value).lower() in ("true", "false"), place, "true or false")
            return str(value).lower() == "true"
    _check(isinstance(value, str | int | float), place, "a text")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(value: Any, place: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    _check(isinstance(value, list) and all(isinstance(one, Mapping) and "Key" in one for one in value), place, "pairs")
    return {str(one["Key"]): one.get("Value", "") for one in value}


def _check(holds: bool, place: str, wanted: str) -> None:
    if not holds:
        raise ValidationError(f"{place} must be {wanted}")
