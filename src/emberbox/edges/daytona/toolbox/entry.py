"""The way of a request into a sandbox: who asks, whether he may, and that the sandbox is in use meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from weakref import WeakValueDictionary

from starlette.responses import Response

from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.service import SandboxService
from emberbox.edges.sandboxes.call import Call
from emberbox.edges.sandboxes.routes import Handler
from emberbox.edges.sandboxes.scripts import FROM_WORK_DIRECTORY
from emberbox.edges.sandboxes.visit import TURNS, Visit
from emberbox.model.sandboxes import Sandbox

USE_NOTED_S: Final = 20.0
"""A request that takes long is use for as long as it does: Daytona's shortest interval is a minute."""

Deed = Callable[[Visit, Call], Awaitable[Response]]


class Entry:
    """Lets requests into sandboxes.

    Args:
        door: opens commands in them.
        sandboxes: finds them.
    """

    def __init__(self, door: SandboxDoor, sandboxes: SandboxService) -> None:
        self._door = door
        self._sandboxes = sandboxes
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def handler(self, do: Deed) -> Handler:
        """Return the handler of a route that does something in a sandbox."""

        async def answer(call: Call) -> Response:
            visit = self.enter(call)
            async with self.use(visit.sandbox):
                return await do(visit, call)

        return answer

    def enter(self, call: Call) -> Visit:
        """Return the visit that a request asks for: it may do everything in the sandbox.

        Raises:
            AccessDeniedError: no policy allows it.
            NotFoundError: there is no such sandbox.
        """
        call.allow_on_sandbox("lambda:CreateMicrovmShellAuthToken")
        sandbox = self._sandboxes.get(call.caller, call.sandbox_id)
        turn = self._turns.setdefault(sandbox.id, asyncio.Semaphore(TURNS))
        return Visit(sandbox, self._door, sandbox.terms.user or None, FROM_WORK_DIRECTORY, turn)

    @contextlib.asynccontextmanager
    async def use(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Count a sandbox as in use for as long as the block lasts."""
        self._sandboxes.note_use(sandbox)
        task = asyncio.create_task(self._keep_noting(sandbox.id))
        try:
            yield
        finally:
            task.cancel()

    async def _keep_noting(self, sandbox_id: str) -> None:
        while True:
            await asyncio.sleep(USE_NOTED_S)
            sandbox = self._door.find(sandbox_id)
            if sandbox is None:
                return
            self._sandboxes.note_use(sandbox)
