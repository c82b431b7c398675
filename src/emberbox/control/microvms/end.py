"""The end of a microVM."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import Final

from emberbox.control.microvms.deadlines import LIFETIME_OVER, SUSPENDED_TOO_LONG
from emberbox.control.microvms.decide import Decision, Wanted, decide
from emberbox.control.microvms.life import Life
from emberbox.machine.base import Left
from emberbox.model.causes import Actor, caused_by, present_cause
from emberbox.model.errors import HostError
from emberbox.model.hooks import HookFailedError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)

NOT_SUSPENDED_AT_STOP: Final = "The MicroVM could not be suspended when the server stopped."
TERMINATING_ACTORS: Final = {LIFETIME_OVER: Actor.TIMER, SUSPENDED_TOO_LONG: Actor.TIMER}


def begin_to_terminate(life: Life, reason: str) -> bool:
    """Move it to TERMINATING at once, and let its end be in line; False when that was done before.

    Raises:
        HostError: the database cannot be written; it goes on.
    """
    with caused_by(TERMINATING_ACTORS.get(reason, present_cause().actor), reason):
        life.row.catch_up()
        if decide(life.row.known, None, Wanted.TERMINATE) is Decision.IGNORE:
            return False
        if not life.row.begin(MicrovmState.TERMINATING, reason):
            return False
        life.stall.give_up()  # what waits for room in front of it must not hold it up
        life.owner.tell(Wanted.END, lambda: terminate(life, reason))
    return True


async def terminate(life: Life, reason: str) -> None:
    """Call /terminate, where it runs, and end it either way."""
    if life.run is not None and life.stall.reason is None:
        life.context.revoke(life.id)
        try:
            with contextlib.suppress(HookFailedError):
                await life.machine.call_hook(life.id, "terminate")
        except Exception:
            log.exception("/terminate of %s", life.id)
    await end(life, reason)


async def end(life: Life, reason: str) -> None:
    """Free everything it has, then say so; what cannot be freed keeps nothing else from being freed."""
    life.idle.stop()
    life.deadlines.stop()
    try:
        async with contextlib.AsyncExitStack() as freed:  # in the opposite order
            freed.push_async_callback(life.end_run, Left.NOTHING)
            freed.callback(life.context.revoke, life.id)
    except Exception:
        log.exception("not all that %s had could be freed", life.id)
    life.row.note(
        MicrovmState.TERMINATED, reason=reason, terminated_at=datetime.now(UTC),
        then=lambda: life.context.on_ended(life.id),
    )  # fmt: skip
    log.info("%s has ended: %s", life.id, reason)


async def end_if(life: Life, run: int, reason: str) -> None:
    """End it, if that run of it still goes on; else it was suspended or terminated: that was us."""
    if life.run == run:
        await end(life, reason)


async def let_go(life: Life) -> None:
    """Let go of it as the server stops. A guest is still there when it could not be suspended, or launched in time."""
    is_saved = life.machine.look(life.id).is_saved
    if life.run is not None:
        log.error("%s still runs as the server stops", life.id)
        if is_saved or life.row.known is MicrovmState.PENDING:  # the next server launches it again
            await life.end_run(Left.FILES)
        elif life.lacks_room or life.stall.reason:
            await life.end_run(Left.ALL)
            log.error("%s runs on: there is no room to suspend it; free some and start the server again", life.id)
        else:
            await end(life, NOT_SUSPENDED_AT_STOP)
    if is_saved:
        life.row.note(MicrovmState.SUSPENDED)
    await life.end_run(Left.ALL)
    with contextlib.suppress(HostError):
        life.row.catch_up()
