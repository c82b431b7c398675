"""Lifecycle hooks as values: which of them an image has, and how long each may take (dossier, 3.4 and 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from emberbox.model.errors import EmberboxError

BUILD_HOOK_DEFAULT_TIMEOUT_S: Final = 30
RUNTIME_HOOK_DEFAULT_TIMEOUT_S: Final = 1


class HookName(StrEnum):
    """The hooks that there are."""

    RUN = "run"
    RESUME = "resume"
    SUSPEND = "suspend"
    TERMINATE = "terminate"
    READY = "ready"
    VALIDATE = "validate"


RUNTIME_HOOKS: Final = (HookName.RUN, HookName.RESUME, HookName.SUSPEND, HookName.TERMINATE)
BUILD_HOOKS: Final = (HookName.READY, HookName.VALIDATE)


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


@dataclass(frozen=True, slots=True)
class HookSetting:
    """What a request says of one hook; None is what it does not say.

    Args:
        is_enabled: whether it is called; it is not where nothing is said.
        timeout_s: how many seconds it may take.
    """

    is_enabled: bool | None = None
    timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What a request says of hooks; None is what it does not say.

    Args:
        port: where the application takes them; always said where one is enabled, once the request is checked.
        runtime: those of a microVM's life, by name.
        build: those of a build, by name.
    """

    port: int | None = None
    runtime: Mapping[HookName, HookSetting] | None = None
    build: Mapping[HookName, HookSetting] | None = None

    def is_enabled(self, name: HookName) -> bool:
        """Say whether a hook is called."""
        return bool(self._setting(name).is_enabled)

    def find(self, name: HookName) -> Hook | None:
        """Return a hook of a checked request; None where it is not enabled."""
        if not self.is_enabled(name):
            return None
        assert self.port is not None
        default = BUILD_HOOK_DEFAULT_TIMEOUT_S if name in BUILD_HOOKS else RUNTIME_HOOK_DEFAULT_TIMEOUT_S
        return Hook(name, self.port, self._setting(name).timeout_s or default)

    def _setting(self, name: HookName) -> HookSetting:
        group = self.build if name in BUILD_HOOKS else self.runtime
        return (group or {}).get(name, HookSetting())
