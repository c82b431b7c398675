"""What comes to a microVM at its endpoint: requests and commands wait for it, and wake it where its policy says so."""

from __future__ import annotations

from emberbox.control.microvms.decide import Wanted
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.resume import WAKE_RETRIES_S, hear_client, wake
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.endpoints import Upstream
from emberbox.model.errors import GuestError, VmmError


class Requests:
    """Those of one microVM. Nothing here changes it: what has to be changed first is a message to its owner.

    Args:
        life: the microVM.
    """

    def __init__(self, life: Life) -> None:
        self._life = life

    async def reach(self, port: int) -> Upstream | None:
        """Say where a port of the guest is reached; None when the microVM does not run.

        A launch or suspend under way is waited for; a suspended microVM is resumed when its policy says so.

        Raises:
            InternalError: it cannot be resumed.
            ConflictError: it stands still for want of room on the disk.
        """
        life = self._life
        while (run := await self._find_run()) is not None:
            anew = port in life.doubted
            life.doubted.discard(port)
            try:
                address, host_port = await life.machine.reach(life.id, port, anew=anew)
            except VmmError:
                if self._goes_on(run):
                    raise
                continue  # a suspend came between
            if self._goes_on(run):
                return Upstream(address, host_port, f"{life.id}.{run}", life.ports.get(port))
        return None

    async def wake(self) -> str | None:
        """Return its incarnation; None when it does not run. Waits and resumes as `reach` does."""
        run = await self._find_run()
        return None if run is None else f"{self._life.id}.{run}"

    async def open_command(self, command: Command) -> GuestCommand | None:
        """Start a command in the application's container; None when it does not run. Waits and resumes as `reach` does.

        Raises:
            GuestError: the command cannot be started.
        """
        while (run := await self._find_run()) is not None:
            try:
                return await self._life.machine.open_command(self._life.id, command)
            except (GuestError, VmmError):
                if self._goes_on(run):
                    raise  # it was not a suspend that came between
        return None

    async def _find_run(self) -> int | None:
        """Return the incarnation that runs, when all that is under way has ended; None when none does."""
        life = self._life
        life.stall.check()
        if life.run is None or life.owner.is_busy:
            await life.owner.ask(Wanted.WAKE, lambda: wake(life), WAKE_RETRIES_S)
        return life.run

    def _goes_on(self, run: int) -> bool:
        return self._life.run == run and not self._life.owner.is_busy

    def doubt(self, port: int) -> None:
        """A connection to a port of the guest has failed: what is known of the port may be wrong."""
        if self._life.run is not None:
            self._life.ports.pop(port, None)
            self._life.doubted.add(port)

    def note_bytes(self, *, from_client: bool) -> None:
        """Bytes have crossed its endpoint: it is not idle. What a client sends on an open stream wakes it."""
        life = self._life
        life.idle.restart()
        if from_client and (life.run is None or life.owner.is_busy) and life.resumes_itself:
            life.owner.tell(Wanted.HEAR, lambda: hear_client(life))
