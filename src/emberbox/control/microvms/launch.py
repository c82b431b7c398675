"""The launch of a microVM."""

from __future__ import annotations

import logging
import time

from emberbox.control.microvms.end import end
from emberbox.control.microvms.life import Life
from emberbox.control.microvms.watch import begin_watch
from emberbox.model.errors import EmberboxError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)


async def launch(life: Life) -> None:
    """Start it from what it starts from, and call /run; what fails ends it with a reason."""
    began = time.monotonic()
    try:
        begin_watch(life, await life.machine.launch(life.plan(life.find_egress()), life.keeper))
        payload = {"microvmId": life.id, "runHookPayload": life.microvm.request.hook_payload or ""}
        await life.machine.call_hook(life.id, "run", payload)
    except Exception as error:
        if not isinstance(error, EmberboxError | OSError):
            log.exception("%s could not be launched", life.id)
        await end(life, str(error) or type(error).__name__)
        return
    life.row.note(MicrovmState.RUNNING)  # unless it is being terminated: then its end is in line already
    life.idle.start()
    log.info("%s runs after %.0f ms", life.id, (time.monotonic() - began) * 1000)
