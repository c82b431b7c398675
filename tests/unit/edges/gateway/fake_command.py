"""A guest's command for tests without a guest: the real host's end, and a few lines in place of the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emberbox.guest.protocol import Frame, FrameType, encode_u32
from emberbox.guest.streams import GuestCommand, StreamState

Answer = Callable[["FakeCommand", Frame], None]


class FakeCommand:
    """Records what the host sends; `answer` is called with every frame.

    Args:
        answer: what the guest does.
        auto_window: whether input is taken at once; otherwise `give_window` does it.
    """

    def __init__(self, answer: Answer = lambda command, frame: None, *, auto_window: bool = True) -> None:
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        opened.set_result(None)
        self.answer = answer
        self._auto_window = auto_window
        self._state = StreamState(opened)
        self.seen: list[Frame] = []
        self.closed = asyncio.Event()
        self.guest = GuestCommand(self, 1, self._state)

    def send(self, frame: Frame) -> None:
        self.seen.append(frame)
        if frame.type is FrameType.DATA and self._auto_window:
            self.give_window(encode_u32(len(frame.payload)))
        self.answer(self, frame)

    def give_window(self, payload: bytes) -> None:
        """Say that so much of the input has been taken."""
        self._state.take(Frame(FrameType.WINDOW, 1, payload))

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def forget_stream(self, stream_id: int) -> None:
        self.closed.set()

    def write(self, data: bytes, kind: FrameType = FrameType.DATA) -> None:
        """Write to the output, or with ERROR_DATA to the error output."""
        if data:
            self._state.take(Frame(kind, 1, data))

    def exit(self, code: int) -> None:
        """End."""
        self._state.take(Frame(FrameType.EXEC_EXITED, 1, encode_u32(code)))
        self._state.take(Frame(FrameType.CLOSE, 1, encode_u32(0)))

    def break_off(self) -> None:
        """Go as with a suspend."""
        self._state.end(104)

    def input(self) -> bytes:
        """Return what has been sent to its input."""
        return b"".join(frame.payload for frame in self.seen if frame.type is FrameType.DATA)

    def controls(self) -> list[tuple[FrameType, bytes]]:
        """Return what else has been sent."""
        quiet = (FrameType.DATA, FrameType.WINDOW)
        return [(frame.type, frame.payload) for frame in self.seen if frame.type not in quiet]
