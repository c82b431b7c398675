"""Why things happen: who set off what is under way, kept in the context of the task that does it.

A request, a timer or a dying guest opens a `caused_by` block; every change of state inside it, also in tasks that it
starts, is stored as an event with this actor and reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Actor(StrEnum):
    """Who sets off a change."""

    CALLER = "CALLER"
    REQUEST = "REQUEST"
    IDLE_POLICY = "IDLE_POLICY"
    TIMER = "TIMER"
    GUEST = "GUEST"
    VMM = "VMM"
    SERVER = "SERVER"


@dataclass(frozen=True, slots=True)
class Cause:
    """An actor and what it did, in words: the operation's name, or a sentence."""

    actor: Actor
    reason: str


_SERVER: Final = Cause(Actor.SERVER, "The server starts or stops.")
_CAUSE: ContextVar[Cause] = ContextVar("cause", default=_SERVER)


@contextmanager
def caused_by(actor: Actor, reason: str) -> Iterator[None]:
    """Say who sets off what happens inside the block."""
    token = _CAUSE.set(Cause(actor, reason))
    try:
        yield
    finally:
        _CAUSE.reset(token)


def present_cause() -> Cause:
    """Return who set off what happens now."""
    return _CAUSE.get()
