"""The owner of one microVM: one line of messages, and one task that deals with them, one at a time.

    ask, tell ──► decide ──► line ──► task: decide again ──► the message's work ──► its answer, to all who wait for it

Nobody but this task changes the microVM. Who asks only waits: whoever goes away, a client that hangs up or a server
that stops, stops nothing (docs/decisions/0020, 0028). The task is there while there are messages.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from emberbox.background import Background, report
from emberbox.control.microvms.decide import Decision, Wanted, decide
from emberbox.model.causes import Cause, caused_by, present_cause
from emberbox.model.errors import ConflictError, InternalError, ServiceError
from emberbox.model.states import MicrovmState

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class _Message:
    """What somebody wants, and the answer that is waited for.

    Attributes:
        wanted: in one word.
        work: does it, when its turn has come.
        name: what it is, for the log.
        cause: who set it off; it counts for all that the work does.
        pauses: where the work fails with InternalError, it is done again after these seconds, once for each.
        answer: what the work returned or raised.
        waiters: how many wait for the answer; an error that nobody waits for is logged.
    """

    wanted: Wanted
    work: Callable[[], Awaitable[Any]]  # Any: what it returns is for those that wait for it
    name: str
    cause: Cause = field(default_factory=present_cause)
    pauses: tuple[float, ...] = ()
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    waiters: int = 0


class Owner:
    """The line and the task of one microVM.

    Args:
        microvm_id: whose.
        state: returns the state that it has.
        settle: puts row, VMM and files in order after a work that failed in a way that it does not know.
    """

    def __init__(
        self, microvm_id: str, state: Callable[[], MicrovmState], settle: Callable[[Exception], Awaitable[None]]
    ) -> None:
        self._id = microvm_id
        self._state = state
        self._settle = settle
        self._line: deque[_Message] = deque()
        """Those that wait, and first the one that is dealt with."""
        self._resting: dict[_Message, asyncio.TimerHandle] = {}
        self._tasks = Background()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is done with it, or is about to be."""
        return bool(self._line)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is done, and nothing is to be tried again either."""
        return not self._line and not self._resting

    def tell(self, wanted: Wanted, work: Callable[[], Awaitable[object]], pauses: tuple[float, ...] = ()) -> bool:
        """Send a message whose answer nobody waits for, as with `ask`; say whether it is in line now."""
        return self._send(wanted, work, pauses) is not None

    async def ask(self, wanted: Wanted, work: Callable[[], Awaitable[T]], pauses: tuple[float, ...] = ()) -> T | None:
        """Send a message and wait for its answer; whoever waits may be cancelled, the work goes on.

        Args:
            wanted: what it is.
            work: does it; called when every earlier message has been dealt with, unless that has made it needless.
            pauses: where it fails with InternalError, it is tried again after these seconds, once for each.

        Returns:
            what the work returned; None when there was nothing to do.

        Raises:
            ConflictError: that cannot be done in the state that it is in.
            Exception: what the work raised.
        """
        message = self._send(wanted, work, pauses)
        if message is None:
            return None
        message.waiters += 1
        try:
            return cast("T | None", await asyncio.shield(message.answer))
        finally:
            message.waiters -= 1

    def _send(
        self, wanted: Wanted, work: Callable[[], Awaitable[object]], pauses: tuple[float, ...]
    ) -> _Message | None:
        last = self._last()
        match decide(self._state(), None if last is None else last.wanted, wanted):
            case Decision.IGNORE:
                return None
            case Decision.REFUSE:
                raise self._refusal()
            case Decision.JOIN:
                return last
            case Decision.ACCEPT:
                name = f"the resume of {self._id}" if wanted is Wanted.WAKE else f"a change of {self._id}"
                message = _Message(wanted, work, name, pauses=pauses)
                self._put(message)
                return message

    def _last(self) -> _Message | None:
        if self._line:
            return self._line[-1]
        return next(reversed(self._resting), None)

    def _refusal(self) -> ConflictError:
        return ConflictError(f"The MicroVM {self._id} is in state {self._state()}; wait until it has settled.")

    def _put(self, message: _Message) -> None:
        self._resting.pop(message, None)
        self._line.append(message)
        if self._task is None or self._task.done():
            self._task = self._tasks.start(self._deal(), f"the owner of {self._id}")

    async def _deal(self) -> None:
        """Deal with the messages until none is left. A message leaves the line when it has been dealt with."""
        try:
            while self._line:
                message = self._line[0]
                await self._deal_with(message)
                self._line.popleft()
        finally:  # a stop that may not wait any longer: who still waits for an answer gets none
            while self._line:
                self._line.popleft().answer.cancel()

    async def _deal_with(self, message: _Message) -> None:
        with caused_by(message.cause.actor, message.cause.reason):
            try:
                answer = await self._work(message)
            except asyncio.CancelledError:
                message.answer.cancel()
                if _is_cancelled():
                    raise
            except InternalError as error:
                if message.pauses:
                    self._rest(message)
                else:
                    _fail(message, error)
            except Exception as error:
                _fail(message, error)
            else:
                message.answer.set_result(answer)

    async def _work(self, message: _Message) -> object:
        match decide(self._state(), None, message.wanted):
            case Decision.IGNORE:
                return None
            case Decision.REFUSE:
                raise self._refusal()
        try:
            return await message.work()
        except ServiceError:
            raise  # it has left everything in order, and says what is
        except Exception as error:
            try:
                await self._settle(error)
            except Exception:
                log.exception("%s could not be put in order; the next server does that", self._id)
            raise

    def _rest(self, message: _Message) -> None:
        """Put a message in line again after its next pause; meanwhile others have their turn."""
        pause_s, *message_pauses = message.pauses
        message.pauses = tuple(message_pauses)
        self._resting[message] = asyncio.get_running_loop().call_later(pause_s, self._put, message)

    async def close(self) -> None:
        """Cancel what is under way and what waits, and wait until that has ended."""
        for message, handle in self._resting.items():
            handle.cancel()
            message.answer.cancel()
        self._resting.clear()
        await self._tasks.close()


def _is_cancelled() -> bool:
    """Say whether the present task is cancelled; else it is only something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _fail(message: _Message, error: Exception) -> None:
    if message.waiters == 0 or message.wanted is Wanted.WAKE:  # a request may go away; that it failed is worth a line
        report(message.name, error)
    if message.waiters:
        message.answer.set_exception(error)
    else:
        message.answer.cancel()
