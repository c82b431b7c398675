"""Work that nobody stops half-way: tasks with an owner, threads that are waited for, writes that arrive."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from emberbox.model.errors import EmberboxError, HostError

log = logging.getLogger(__name__)

RETRY_INTERVAL_S: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """The tasks of one owner, who closes it.

    No error is lost: one that nobody waits for is logged, with its traceback where nobody has foreseen it.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()  # Any: what they return is for those that wait for them

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin work that nobody waits for; `name` says in the log what it was."""
        task = self._run(work, name)
        task.add_done_callback(_report)
        return task

    async def see_through(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Do work to its end and return what it returns, or raise what it raises.

        Whoever waits may be cancelled: a client hangs up, a server stops. The work goes on, and `close` waits for it.
        """
        task = self._run(work, name)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_report)
            raise

    def _run(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, patience_s: float = 0.0) -> None:
        """Wait so many seconds for what is under way, and cancel what is left then."""
        if patience_s and self._others():
            await asyncio.wait(self._others(), timeout=patience_s)
        while others := self._others():
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def _others(self) -> set[asyncio.Task[Any]]:
        return {task for task in self._tasks if not task.done() and task is not asyncio.current_task()}


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        report(task.get_name(), error)


def report(name: str, error: BaseException) -> None:
    """Log an error that nobody waits for, with its traceback where nobody has foreseen it."""
    if isinstance(error, EmberboxError):
        log.error("%s failed: %s", name, error)
    else:
        log.error("%s failed", name, exc_info=error)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work in a thread. Who is cancelled waits all the same until it has ended: a thread cannot be stopped.

    So whatever is let go of next, a file or a VMM, is not in use any more.
    """
    call = functools.partial(contextvars.copy_context().run, functools.partial(work, *args, **kwargs))
    return await to_the_end(asyncio.get_running_loop().run_in_executor(None, call))


async def to_the_end(work: Awaitable[T]) -> T:
    """Wait for work that is not cancelled with whoever waits for it: he goes on only when it has ended."""
    ending = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        while not ending.done():
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError:
                continue  # it is being cancelled already
        if not ending.cancelled() and (error := ending.exception()) is not None:
            log.warning("a cancelled piece of work failed: %s", error)
        raise


async def until_written(write: Callable[[], T], what: str) -> T:
    """Write to the database: now, or as soon as that can be done.

    Args:
        write: does it, and raises HostError where the database cannot be used.
        what: begins the line in the log that says so.
    """
    told = False
    while True:
        try:
            return write()
        except HostError as error:
            if not told:
                log.error("%s cannot be stored yet, and is stored as soon as it can be: %s", what, error)
            told = True
        await asyncio.sleep(RETRY_INTERVAL_S)


async def every(interval_s: float, *works: Callable[[], Awaitable[object]]) -> None:
    """Do several things now and then again and again; none keeps the others from being done, whatever it raises."""
    while True:
        for work in works:
            try:
                await work()
            except HostError as error:
                log.error("%s; it is tried again in %g s", error, interval_s)
            except Exception:
                log.exception("housekeeping failed; it is tried again in %g s", interval_s)
        await asyncio.sleep(interval_s)
