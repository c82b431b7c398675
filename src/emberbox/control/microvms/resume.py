"""The resume of a microVM: for a caller, for a request at its endpoint, and for bytes that it has not received."""

from __future__ import annotations

import logging
import time

from emberbox.control.microvms.decide import Wanted
from emberbox.control.microvms.end import end
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.watch import begin_watch
from emberbox.machine.base import Started
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import GuestError, HostError, InternalError, VmmError
from emberbox.model.hooks import HookFailedError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)

WAKE_RETRIES_S = (0.5, 1.5)


async def wake(life: Life) -> None:
    """Resume it where its policy lets a request do that.

    Raises:
        InternalError: it could not be started; it is still suspended, with all it had.
    """
    if life.resumes_itself:
        await resume_if_suspended(life)


async def hear_client(life: Life) -> None:
    """Resume it where it has not received all that its clients sent: reports are late, and may be of before."""
    if await life.machine.has_undelivered(life.id):
        with caused_by(Actor.REQUEST, "Bytes of a client on an open stream."):
            life.owner.tell(Wanted.WAKE, lambda: wake(life), WAKE_RETRIES_S)


async def resume_if_suspended(life: Life) -> None:
    """Resume it, unless it runs or ends.

    Raises:
        InternalError: it could not be started; it is still suspended, with all it had.
    """
    if life.run is not None:
        return
    if life.stops:  # the next server would have to take back what this one cannot finish
        raise InternalError(f"The MicroVM {life.id} is still suspended: the server stops")
    try:
        life.row.catch_up()
    except HostError as error:
        raise InternalError(f"The MicroVM {life.id} could not be resumed and is still suspended: {error}") from error
    if life.row.known is MicrovmState.SUSPENDED:
        await resume(life)


async def resume(life: Life) -> None:
    """Start it where it was, and call /resume.

    Raises:
        InternalError: it could not be started; it is still suspended, or has ended, as the text says.
    """
    began = time.monotonic()
    life.deadlines.stop_suspended()
    try:
        started = await life.machine.resume(life.plan(life.find_egress()), life.keeper)
    except (GuestError, VmmError, HostError, OSError) as error:
        raise await _fail(life, error) from error
    await go_on(life, started)
    duration_s = time.monotonic() - began
    life.row.note(MicrovmState.RUNNING, new_incarnation=True, duration_s=duration_s)
    life.explain(None)
    life.idle.start()
    log.info("%s was resumed in %.0f ms", life.id, duration_s * 1000)


async def _fail(life: Life, error: Exception) -> InternalError:
    """Leave it suspended, or end it when it has begun to run; return what callers are told."""
    log.warning("%s could not be resumed: %s", life.id, error)
    if not life.machine.look(life.id).is_saved:
        await end(life, f"The MicroVM ended while it was resumed: {error}")
        return InternalError(f"The MicroVM {life.id} ended while it was resumed: {error}")
    life.deadlines.start_suspended(life.microvm)
    life.explain(f"The MicroVM could not be resumed: {error}")
    return InternalError(f"The MicroVM {life.id} could not be resumed and is still suspended: {error}")


async def go_on(life: Life, started: Started) -> None:
    """Call /resume. A failing one ends nothing: the application runs, and ending it would lose what it holds."""
    begin_watch(life, started)
    try:
        await life.machine.call_hook(life.id, "resume")
    except HookFailedError as error:
        log.warning("%s: %s", life.id, error)
