"""The watch over a microVM that runs: what its machine tells becomes messages to its owner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Final

from emberbox.control.microvms.decide import Wanted
from emberbox.control.microvms.end import end_if
from emberbox.control.microvms.life import Life
from emberbox.machine.base import AgentLost, End, Exited, Started, VmmEnded
from emberbox.model.causes import Actor, caused_by
from emberbox.model.errors import VmmError
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

RECONNECTS_AFTER_S: Final = (0.5, 2.0, 5.0)
LOSSES_MAX, LOSSES_WITHIN_S = 5, 600.0
"""A guest that breaks the protocol more often is not spoken to again."""

GOES_ON_WITHIN_S: Final = limit_s(1.0)
AGENT_LOST: Final = "The MicroVM's agent does not answer any more:"


def begin_watch(life: Life, started: Started) -> None:
    """Take note that it runs, and watch over that run of it until it ends."""
    run = life.begin_run(started)
    life.background.start(_watch(life, run), f"the watch over {life.id}")


async def _watch(life: Life, run: int) -> None:
    stalls = asyncio.create_task(_watch_disk(life, run))
    try:
        with contextlib.suppress(VmmError):  # it was suspended or terminated before we could look
            await _watch_end(life, run)
    finally:
        stalls.cancel()


async def _watch_end(life: Life, run: int) -> None:
    """End the microVM when its application or its VMM ends by itself, or its agent is lost for good."""
    while life.run == run:
        event = await life.machine.wait_end(life.id)
        if life.run != run:
            return  # suspended or terminated: that was us
        if isinstance(event, AgentLost) and await life.owner.ask(
            Wanted.FIND_AGENT, partial(_find_agent, life, run, event)
        ):
            continue
        actor, reason = _explain(event)
        with caused_by(actor, reason):
            await life.owner.ask(Wanted.LOSE, partial(end_if, life, run, reason))
        return


def _explain(event: End) -> tuple[Actor, str]:
    match event:
        case Exited(code):
            return Actor.GUEST, f"Container Stopped with Exit Code: {code}"
        case VmmEnded(how):
            return Actor.VMM, f"The microVM's VMM ended unexpectedly: {how}"
        case AgentLost(why):
            return Actor.GUEST, f"{AGENT_LOST} {why}"


async def _find_agent(life: Life, run: int, event: AgentLost) -> bool:
    """Find a guest's agent again, which has been lost; say whether that is settled."""
    if life.run != run:
        return True
    log.warning("the agent of %s is lost and looked for again: %s", life.id, event.why)
    now = time.monotonic()
    life.losses = [moment for moment in life.losses if now - moment < LOSSES_WITHIN_S] + [now]
    if len(life.losses) > LOSSES_MAX:
        return False
    for delay_s in RECONNECTS_AFTER_S:
        await asyncio.sleep(delay_s)
        try:
            await life.machine.reconnect(life.id)
        except Exception as error:  # whatever it is, the watch goes on
            log.warning("the agent of %s is not found: %s", life.id, error)
        else:
            return True
    return False


async def _watch_disk(life: Life, run: int) -> None:
    """Let the guest go on each time that its VMM has stopped it because the host's disk was full."""
    with contextlib.suppress(VmmError):  # it has ended
        while life.run == run:
            await life.machine.wait_stalled(life.id)
            if not await life.stall.wait_for_room():
                return
            await life.owner.ask(Wanted.GO_ON, lambda: _go_on(life, run))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOES_ON_WITHIN_S):
                    await life.machine.wait_stalled(life.id)
                    continue
            life.stall.end()


async def _go_on(life: Life, run: int) -> None:
    if life.run == run:
        await life.machine.go_on(life.id)
