"""Lifecycle hooks as values: what an image has enabled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emberbox.model.errors import EmberboxError

BUILD_HOOK_DEFAULT_TIMEOUT_S: Final = 30
RUNTIME_HOOK_DEFAULT_TIMEOUT_S: Final = 1


@dataclass(frozen=True, slots=True)
class Hook:
    """One enabled hook: its name, the port of the application, and how long it may take."""

    name: str
    port: int
    timeout_s: int

    @property
    def title(self) -> str:
        """Its name as it begins a sentence."""
        return self.name.capitalize()


class HookFailedError(EmberboxError):
    """A runtime hook failed; the text is what the microVM's `stateReason` shows."""
