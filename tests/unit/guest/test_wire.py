"""The connection to an agent, on the event loop that the server has."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from emberbox.guest.protocol import Frame, FrameType
from emberbox.guest.wire import Wire, open_streams
from emberbox.model.errors import GuestError


async def _no_wait() -> None:
    pass


def test_who_sends_when_the_vmm_has_just_died_meets_no_failure_of_the_event_loops() -> None:
    """A connection is reset when its other side ends with something unread; for an instant nobody has heard of it."""
    heard: list[str] = []

    async def lose(turns: int) -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await open_streams(ours)
        wire = Wire(
            reader, writer, take=lambda _frame: None, wait_for_room=_no_wait, on_end=lambda why: heard.append(str(why))
        )
        receiving = asyncio.create_task(wire.receive())
        for turn in range(40):
            wire.send(Frame(FrameType.HELLO, 0, b"x" * 16))
            if turn == turns:
                theirs.close()
            await asyncio.sleep(0)
        await receiving
        assert isinstance(wire.lost.result(), GuestError)

    async def run() -> None:
        for turns in range(20):
            await lose(turns)

    uvloop.run(run())
    assert heard == ["the connection to the guest's agent ended"] * 20
