"""Requests to a guest's agent: one after the other, each with one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emberbox.guest.protocol import Frame, FrameType
from emberbox.guest.wire import Wire
from emberbox.model.errors import GuestError

_ANSWERS = (FrameType.STARTED, FrameType.FROZEN, FrameType.THAWED)


class Requests:
    """Asks, and waits for answers.

    Args:
        wire: what is asked goes there; what comes as an answer is brought to `take`.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asking = asyncio.Lock()
        self._answer: asyncio.Future[Frame] | None = None
        self._late_answers = 0

    async def ask(
        self, kind: FrameType, answer: FrameType, timeout_s: float, payload: Callable[[], bytes] = bytes
    ) -> None:
        """Ask for something, and wait until it is done.

        Args:
            kind: of the request.
            answer: of the answer that says that it is done.
            timeout_s: how long it may take, with those that were asked before, in seconds.
            payload: called when the request is sent.

        Raises:
            GuestError: the guest says why not, another answer came, none came in time, or the connection has ended.
        """
        try:
            async with asyncio.timeout(timeout_s), self._asking:
                reply = await self._send(kind, payload)
        except TimeoutError:
            raise GuestError(f"the guest did not answer {kind.name} within {timeout_s:g} s") from None
        if reply.type is FrameType.FAILED:
            raise GuestError(reply.payload.decode(errors="replace")[:500])
        if reply.type is not answer:
            raise GuestError(f"the guest answered {kind.name} with {reply.type.name}")

    async def _send(self, kind: FrameType, payload: Callable[[], bytes]) -> Frame:
        self._wire.check_connected()
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._wire.send(Frame(kind, 0, payload()))
        try:
            return await answer
        finally:
            if self._answer is answer and answer.cancelled():  # whoever asked has given up; the answer still comes
                self._late_answers += 1
            self._answer = None

    def take(self, frame: Frame) -> None:
        """Take an answer.

        Raises:
            GuestError: nobody asked, or it says more than it may.
        """
        if frame.type in _ANSWERS and frame.payload:
            raise GuestError(f"the guest sent {frame.type.name} with a payload")
        if self._late_answers:
            self._late_answers -= 1  # nobody waits for it any more
            return
        waits, self._answer = self._answer, None
        if waits is None:
            raise GuestError(f"the guest sent {frame.type.name}, which nobody had asked for")
        if not waits.cancelled():  # else whoever asked gives up just now
            waits.set_result(frame)

    def end(self, failure: GuestError) -> None:
        """Tell whoever waits that no answer will come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failure)
