"""Commands that run on between two calls of an agent's tools, with a terminal or without."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agents.sandbox.errors import PtySessionNotFoundError
from agents.sandbox.session.pty_output import collect_pty_output
from agents.sandbox.session.pty_types import (
    PTY_PROCESSES_MAX,
    PtyExecUpdate,
    allocate_pty_process_id,
    process_id_to_prune_from_meta,
)

from emberbox_sdk._async.command import AsyncCommand
from emberbox_sdk.errors import EmberboxError
from emberbox_sdk.integrations.shared import OUTPUT_BYTES

FULL_PAUSE_S = 0.05
CUT_OFF = 255
"""The exit code of a command whose end is not known, as ssh has it."""


@dataclass(eq=False)
class _Process:
    """A command, and what it has written that no tool has asked for yet."""

    command: AsyncCommand
    tty: bool
    chunks: deque[bytes] = field(default_factory=deque)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int | None = None
    used_at: float = field(default_factory=time.monotonic)
    reading: asyncio.Task[None] | None = None

    async def read(self, timeout_s: float | None) -> None:
        """Take what it writes until it ends; what nobody asks for makes it wait, as a full pipe does."""
        try:
            async with asyncio.timeout(timeout_s):
                async for output in self.command:
                    self.chunks.append(output.data)
                    self.news.set()
                    # The framework takes from the queue, and tells nobody.
                    while sum(map(len, self.chunks)) > OUTPUT_BYTES:  # noqa: ASYNC110
                        await asyncio.sleep(FULL_PAUSE_S)
            self.exit_code = self.command.exit_code
        except TimeoutError:
            self.chunks.append(f"\nit took longer than {timeout_s:g} s and was ended\n".encode())
        except EmberboxError as error:
            self.chunks.append(f"\n{error}\n".encode())
        finally:
            if self.exit_code is None:
                self.exit_code = CUT_OFF
            self.news.set()

    async def end(self) -> None:
        """End it, where it has not ended, and let its connection go."""
        if self.reading is not None:
            self.reading.cancel()
            await asyncio.gather(self.reading, return_exceptions=True)
        with contextlib.suppress(EmberboxError):
            if self.command.exit_code is None:
                await self.command.kill()
            await self.command.aclose()


class Processes:
    """The commands of one session by the numbers that the framework gives them; of too many, the stalest is ended."""

    def __init__(self) -> None:
        self._running: dict[int, _Process] = {}

    async def start(
        self,
        begin: Callable[[], Awaitable[AsyncCommand]],
        *,
        tty: bool,
        timeout_s: float | None,
        wait_ms: int,
        max_output_tokens: int | None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it has written after a while.

        Args:
            begin: starts it.
            tty: whether it has a terminal, and so input.
            timeout_s: how long it may run.
            wait_ms: how long to wait for its end.
            max_output_tokens: how much of its output is returned.
        """
        await self._make_room()
        process = _Process(await begin(), tty)
        number = allocate_pty_process_id(set(self._running))
        self._running[number] = process
        process.reading = asyncio.create_task(process.read(timeout_s))
        if not tty:
            with contextlib.suppress(EmberboxError):  # it has ended already
                await process.command.close_stdin()
        return await self._tell(number, process, wait_ms, max_output_tokens)

    async def write(self, number: int, chars: str, *, wait_ms: int, max_output_tokens: int | None) -> PtyExecUpdate:
        """Write to a command's terminal, and return what it has written after a while.

        Args:
            number: of the command.
            chars: what is typed; nothing, to ask for output alone.
            wait_ms: how long to wait for its end.
            max_output_tokens: how much of its output is returned.

        Raises:
            PtySessionNotFoundError: there is no such command, or its end was told.
            RuntimeError: it has no input. The framework's tool knows the text.
        """
        process = self._running.get(number)
        if process is None:
            raise PtySessionNotFoundError(session_id=number)
        if chars and not process.tty:
            raise RuntimeError("stdin is not available for this process")
        process.used_at = time.monotonic()
        if chars and process.exit_code is None:
            with contextlib.suppress(EmberboxError):  # it has ended since: what follows says so
                await process.command.send(chars)
        return await self._tell(number, process, wait_ms, max_output_tokens)

    async def end_all(self) -> None:
        """End them all."""
        ending = list(self._running.values())
        self._running.clear()
        for process in ending:
            await process.end()

    async def _make_room(self) -> None:
        if len(self._running) < PTY_PROCESSES_MAX:
            return
        found = [(number, process.used_at, process.exit_code is not None) for number, process in self._running.items()]
        number = process_id_to_prune_from_meta(found)
        if number is not None:
            await self._running.pop(number).end()

    async def _tell(self, number: int, process: _Process, wait_ms: int, max_output_tokens: int | None) -> PtyExecUpdate:
        output, original_tokens, closed = await collect_pty_output(
            output_chunks=process.chunks,
            output_lock=process.lock,
            output_notify=process.news,
            is_done=lambda: process.exit_code is not None,
            yield_time_ms=wait_ms,
            max_output_tokens=max_output_tokens,
        )
        if closed and self._running.pop(number, None) is not None:
            await process.end()
        return PtyExecUpdate(
            process_id=None if closed else number,
            output=output,
            exit_code=process.exit_code if closed else None,
            original_token_count=original_tokens,
        )
