"""The suspend of a microVM: for a caller, for its idle policy, and for a server that stops."""

from __future__ import annotations

import contextlib
import logging
import time

from emberbox.control.microvms.deadlines import SUSPENDED_TOO_LONG
from emberbox.control.microvms.end import begin_to_terminate, end
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.settle import settle
from emberbox.control.requests.tags import survives_failed_suspend
from emberbox.machine.base import NoRoomError
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import ConflictError, GuestError, HostError, InternalError, VmmError
from emberbox.model.hooks import HookFailedError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)


async def suspend(life: Life, *, server_stops: bool = False) -> None:
    """Call /suspend, save it and end its VMM. When it cannot be saved it runs on.

    Args:
        life: whose.
        server_stops: it cannot run on, so where its image wants to survive a failed hook, it is saved all the same.

    Raises:
        InternalError: it could not be saved; the text says why.
        ConflictError: its /suspend hook failed, and its image's tag says that it is to run on.
    """
    if life.run is None or not _begin(life, server_stops=server_stops):
        return
    await life.context.drain(life.id)
    failure = None if life.stall.reason else await _call_hook(life)
    if failure is not None and not survives_failed_suspend(life.context.image_tags(life.version.image_id)):
        await end(life, str(failure))
    elif failure is None or server_stops:
        await _save(life)
    else:
        with caused_by(Actor.GUEST, str(failure)):
            life.row.note(MicrovmState.RUNNING)
        life.idle.restart()
        log.warning("%s was not suspended and runs on: %s", life.id, failure)
        raise ConflictError(f"The MicroVM {life.id} was not suspended and is still running: {failure}")


def _begin(life: Life, *, server_stops: bool) -> bool:
    """Make it SUSPENDING; False when it is being terminated. A stop saves it also where that cannot be stored.

    Raises:
        InternalError: the database cannot be written.
    """
    try:
        return life.row.begin(MicrovmState.SUSPENDING)
    except HostError as error:
        if server_stops:  # the next server goes by the files
            return True
        raise InternalError(f"The MicroVM {life.id} was not suspended and is still running: {error}") from error


async def _call_hook(life: Life) -> HookFailedError | None:
    """Call /suspend; return why it failed. What that means depends on the image's tag."""
    try:
        await life.machine.call_hook(life.id, "suspend")
    except HookFailedError as error:
        return error
    return None


async def _save(life: Life) -> None:
    began = time.monotonic()
    try:
        figures = await life.machine.suspend(life.id)
    except (GuestError, VmmError, HostError, OSError) as error:
        if life.machine.look(life.id).is_saved:  # only what comes after the saving has failed
            await settle(life, error)
            return
        life.lacks_room = isinstance(error, NoRoomError)
        with caused_by(Actor.SERVER, f"It could not be suspended: {error}"):
            life.row.note(MicrovmState.RUNNING)
        life.idle.restart()
        log.warning("%s could not be suspended and runs on: %s", life.id, error)
        raise InternalError(f"The MicroVM {life.id} could not be suspended and is still running: {error}") from error
    life.run = None
    life.become_suspended()
    milliseconds = (time.monotonic() - began) * 1000
    log.info("%s was suspended in %.0f ms, %d bytes of memory", life.id, milliseconds, figures.memory_bytes)


async def end_idleness(life: Life) -> None:
    """Suspend it after its idle time, or end it when its policy leaves it no suspended time."""
    if not life.idle.is_over:
        return  # a request came in at the last moment
    life.idle.restart()  # where nothing comes of it, it is tried again
    policy = life.microvm.request.idle_policy
    if policy is not None and policy.suspended_s == 0:
        begin_to_terminate(life, SUSPENDED_TOO_LONG)
    elif not life.stall.reason:
        reason = f"No byte has crossed its endpoint for {life.idle.limit_s} s."
        with caused_by(Actor.IDLE_POLICY, reason), contextlib.suppress(InternalError, ConflictError):
            await suspend(life)
