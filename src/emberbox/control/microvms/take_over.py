"""What a new server does first with a microVM of an earlier one: it goes on with its VMM, or keeps it suspended."""

from __future__ import annotations

import logging
import time
from typing import Final

from emberbox.control.microvms.end import end
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.resume import go_on
from emberbox.control.microvms.watch import begin_watch
from emberbox.model.errors import EmberboxError, GuestError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)

NOT_TAKEN_OVER: Final = "The MicroVM could not be taken over from a server that was killed:"


async def take_over(life: Life) -> None:
    """Go on with a VMM that an earlier server started; finish a resume that was under way, undo a suspend."""
    resuming = life.microvm.state is MicrovmState.SUSPENDED
    if resuming:
        life.incarnation += 1
    began = time.monotonic()
    try:
        started = await life.machine.take_over(life.plan(), life.keeper, resumes=resuming)
        if started is None:  # the server stops, and the next one finds it as this one did
            return
    except (EmberboxError, OSError) as error:
        if life.row.known is not MicrovmState.TERMINATING:  # else its end is in line, and has a reason
            await end(life, f"{NOT_TAKEN_OVER} {error}")
        return
    life.stall.end()
    if resuming:
        await go_on(life, started)
    else:
        begin_watch(life, started)
    life.row.note(MicrovmState.RUNNING, new_incarnation=resuming)
    life.idle.start()
    log.info("%s was taken over in %.0f ms", life.id, (time.monotonic() - began) * 1000)


async def wait_to_be_adopted(life: Life) -> bool:
    """Wait for room, for a VMM that stands still; False when the server stops.

    Raises:
        GuestError: it is terminated instead.
    """
    if await life.stall.wait_for_room():
        return True
    if life.stops:
        return False
    raise GuestError("it is being terminated")


def keep_suspended(life: Life) -> None:
    """Take over a microVM that is suspended, though its row may not say so yet."""
    life.incarnation = life.microvm.incarnation
    if life.microvm.state is not MicrovmState.SUSPENDED:
        life.become_suspended()
    life.explanation = life.microvm.state_reason
    if problem := life.machine.look(life.id).problem:
        life.explain(f"The MicroVM cannot be resumed: {problem}")
    life.deadlines.start_suspended(life.microvm)
