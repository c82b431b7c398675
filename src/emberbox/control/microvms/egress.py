"""What a microVM that runs may reach, when its connector changes."""

from __future__ import annotations

import logging

from emberbox.control.microvms.life import Life
from emberbox.model.egress import NO_EGRESS
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)


async def renew_egress(life: Life) -> None:
    """Let what its connector allows now count at once; where that is not known any more, it reaches nothing."""
    if life.run is None:
        return
    try:
        egress = life.find_egress()
    except HostError as error:
        log.error("%s reaches nothing any more: %s", life.id, error)
        egress = NO_EGRESS
    if egress is not None:
        await life.machine.restrict(life.id, egress)
