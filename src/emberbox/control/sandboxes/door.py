"""What clients reach in a sandbox that runs, or is let run for them: commands, and ports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from emberbox.control.microvms.requests import Requests
from emberbox.control.microvms.runners import Runners
from emberbox.control.sandboxes.service import SandboxService
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.causes import Actor, caused_by
from emberbox.model.endpoints import Unreachable, Upstream
from emberbox.model.errors import EmberboxError, GuestError
from emberbox.model.sandboxes import Sandbox
from emberbox.store.sandboxes import SandboxStore

T = TypeVar("T")


class SandboxDoor:
    """Finds sandboxes, and what runs in them.

    Args:
        store: the rows.
        runners: the microVMs that have not ended.
        sandboxes: lets them run.
    """

    def __init__(self, store: SandboxStore, runners: Runners, sandboxes: SandboxService) -> None:
        self._store = store
        self._runners = runners
        self._sandboxes = sandboxes

    def find(self, sandbox_id: str) -> Sandbox | None:
        """Return a sandbox that has not ended; None where there is none."""
        found = self._store.find(sandbox_id)
        return None if found is None or found.has_ended else found

    async def wake(self, sandbox: Sandbox) -> None:
        """See that it runs.

        Raises:
            Unreachable: it does not, and may not or cannot be resumed.
        """
        await self._in(sandbox, lambda requests: requests.wake())

    async def open_command(self, sandbox: Sandbox, command: Command) -> GuestCommand:
        """Start a command in it.

        Raises:
            Unreachable: it does not run, and may not or cannot be resumed.
            GuestError: the command cannot be started.
        """
        return await self._in(sandbox, lambda requests: requests.open_command(command))

    async def connect(self, sandbox: Sandbox, port: int) -> Upstream:
        """Say where a port of it is reached.

        Raises:
            Unreachable: it does not run, and may not or cannot be resumed.
        """
        return await self._in(sandbox, lambda requests: requests.reach(port))

    async def _in(self, sandbox: Sandbox, do: Callable[[Requests], Awaitable[T | None]]) -> T:
        runner = self._runners.find(sandbox.id)
        try:
            with caused_by(Actor.REQUEST, "A request to the sandbox."):
                done = None if runner is None or sandbox.is_paused else await do(runner.requests)
                if runner is not None and done is None and await self._sandboxes.let_run(sandbox):
                    done = await do(runner.requests)
        except GuestError:
            raise
        except EmberboxError as error:
            raise Unreachable(str(error)) from error
        if done is None:
            raise Unreachable(f"the sandbox {sandbox.id} does not run")
        return done
