"""What answers one operation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from emberbox.model.caller import Caller

Parameters = Mapping[str, Any]
"""An operation's input by the names in the service model. Any: a member has whatever type its shape has."""

Members = Mapping[str, Any]
"""The members of an output by their names in the model; None is left out. Any: as before."""

Handler = Callable[[Caller, dict[str, Any]], Awaitable[Members]]
"""Answers one operation; raises a `ServiceError` otherwise."""
