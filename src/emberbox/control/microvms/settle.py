"""What becomes of a microVM when a change of it has failed in a way that nobody has foreseen."""

from __future__ import annotations

import logging

from emberbox.control.microvms.end import end
from emberbox.control.microvms.life import Life
from emberbox.machine.base import Left
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)


async def settle(life: Life, error: Exception) -> None:
    """Let row and files say what is there.

    The facts are those that the next server would find, and so is what follows from them (`FATES` in recovery.py).
    """
    await life.machine.settle(life.id)
    if life.machine.look(life.id).is_saved:
        try:
            await life.end_run(Left.FILES)
        except Exception:
            log.exception("not all that %s had could be freed", life.id)
        life.stay_suspended()
    elif life.run is not None:
        life.row.note(MicrovmState.RUNNING)
        life.idle.restart()
    else:
        await end(life, f"The MicroVM ended by an error of the server's: {error}")
