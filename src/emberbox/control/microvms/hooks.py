"""The hooks of a microVM's life: /run, /resume, /suspend and /terminate, where its image has them enabled."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from emberbox.control.images.rules import find_hook
from emberbox.guest.agent import Agent
from emberbox.machine.hooks import HookFailedError, call_hook

log = logging.getLogger(__name__)


class RuntimeHooks:
    """One microVM's hooks; what a failure means is said at each. One that is not enabled never fails.

    Args:
        microvm_id: whose.
        request: the checked build request of its image version.
    """

    def __init__(self, microvm_id: str, request: Mapping[str, Any]) -> None:
        self._id = microvm_id
        self._request = request

    async def run(self, agent: Agent, payload: str) -> None:
        """Call /run with the payload of RunMicrovm.

        Raises:
            HookFailedError: the microVM must end.
        """
        await self._call(agent, "run", {"microvmId": self._id, "runHookPayload": payload})

    async def suspend(self, agent: Agent) -> HookFailedError | None:
        """Call /suspend; return why it failed. What that means depends on the image's tag."""
        try:
            await self._call(agent, "suspend")
        except HookFailedError as error:
            return error
        return None

    async def resume(self, agent: Agent) -> None:
        """Call /resume. A failing one ends nothing: the application runs, and ending it would lose what it holds."""
        try:
            await self._call(agent, "resume")
        except HookFailedError as error:
            log.warning("%s: %s", self._id, error)

    async def terminate(self, agent: Agent) -> None:
        """Call /terminate; it ends either way."""
        with contextlib.suppress(HookFailedError):
            await self._call(agent, "terminate")

    async def _call(self, agent: Agent, name: str, payload: dict[str, str] | None = None) -> None:
        hook = find_hook(self._request, name)
        if hook is not None:
            await call_hook(agent, hook, payload)
