# Made by sdk/make_sync.py from _async/command.py; do not edit.
"""Commands in a sandbox: to their end, or in the background with input and signals."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import httpx2

from emberbox_sdk import commands
from emberbox_sdk._sync import platform
from emberbox_sdk._sync.endpoint import Endpoint
from emberbox_sdk.commands import Asked, Gathered
from emberbox_sdk.errors import DeadlineError, EmberboxError
from emberbox_sdk.results import CommandResult, Output

CHUNK_BYTES = 1 << 16

OnText = Callable[[str], None]


class Command:
    """A command that runs. Iterate over it for what it writes, or `wait()` for its end.

    It is a context manager: leaving the block ends the command if it still runs. One that is dropped gets SIGHUP.
    """

    def __init__(self, asked: Asked, websocket: platform.WebSocket, closing: contextlib.ExitStack) -> None:
        self._asked = asked
        self._websocket = websocket
        self._closing = closing
        self._gathered = Gathered(asked.errors, asked.keep_bytes)

    @classmethod
    def start(cls, endpoint: Endpoint, asked: Asked) -> Self:
        """Start a command.

        Raises:
            EmberboxError: it cannot be started.
        """
        with contextlib.ExitStack() as stack:
            websocket = stack.enter_context(endpoint.open_websocket(commands.SUBPROTOCOL))
            websocket.send(json.dumps(asked.members()))
            return cls(asked, websocket, stack.pop_all())
        raise AssertionError  # a stack swallows nothing

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it is not known to have."""
        return self._gathered.exit_code

    def read(self, timeout_s: float | None = None) -> Output | None:
        """Return the next piece of what it writes; None once it has ended.

        Raises:
            DeadlineError: it has written nothing in time; it runs on.
            DisconnectedError: the sandbox was suspended or has ended.
        """
        if self._gathered.exit_code is not None:
            return None
        try:
            found = commands.read_frame(platform.receive(self._websocket, timeout_s))
        except TimeoutError as error:
            raise DeadlineError(f"`{self._asked}` wrote nothing for {timeout_s:g} s", "it still runs") from error
        except platform.ConnectionClosed as error:
            raise commands.disconnected(error.rcvd.reason if error.rcvd else "") from error
        if isinstance(found, Output):
            return found
        self._gathered.exit_code = found
        self._closing.close()
        return None

    def __iter__(self) -> Iterator[Output]:
        while (output := self.read()) is not None:
            yield output

    def wait(
        self, timeout_s: float | None = None, *, on_stdout: OnText | None = None, on_stderr: OnText | None = None
    ) -> CommandResult:
        """Return what it has written since it was last read, and how it ended.

        Args:
            timeout_s: how long it may take; it runs on after that.
            on_stdout: called with each piece of its output.
            on_stderr: the same of its error output.

        Raises:
            DeadlineError: it has not ended in time; what it wrote is in the error.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        heard = {"stdout": on_stdout, "stderr": on_stderr}
        while True:
            try:
                left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
                output = self.read(left)
            except DeadlineError as error:
                out, err = self._gathered.texts()
                text = f"`{self._asked}` has not ended in {timeout_s:g} s"
                raise DeadlineError(text, "it still runs; kill() ends it", stdout=out, stderr=err) from error
            if output is None:
                return self._gathered.result()
            text = self._gathered.add(output)
            hear = heard[output.stream]
            if hear is not None and text:
                hear(text)

    def send(self, data: str | bytes) -> None:
        """Write to its input.

        Raises:
            DisconnectedError: it has ended.
        """
        content = data.encode() if isinstance(data, str) else data
        for begin in range(0, len(content), CHUNK_BYTES):
            self._send(content[begin : begin + CHUNK_BYTES])

    def close_stdin(self) -> None:
        """End its input, as Ctrl-D does."""
        self._send(json.dumps({"type": "eof"}))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and its children; one that has ended already is left alone."""
        with contextlib.suppress(EmberboxError):
            self._send(json.dumps({"type": "signal", "signal": int(number)}))

    def resize(self, columns: int, rows: int) -> None:
        """Say how large its terminal is."""
        self._send(json.dumps({"type": "resize", "cols": columns, "rows": rows}))

    def _send(self, message: bytes | str) -> None:
        try:
            self._websocket.send(message)
        except platform.ConnectionClosed as error:
            raise commands.disconnected("the command has ended") from error

    def close(self) -> None:
        """Leave it; it gets SIGHUP if it still runs."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.exit_code is None:
            self.kill()
        self.close()


def run(
    endpoint: Endpoint,
    asked: Asked,
    *,
    data: str | bytes = "",
    timeout_s: float | None,
    on_stdout: OnText | None = None,
    on_stderr: OnText | None = None,
) -> CommandResult:
    """Run a command to its end.

    Raises:
        DeadlineError: it took longer than `timeout_s`; it was ended, and what it wrote is in the error.
        EmberboxError: it could not be started, or its end is not known.
    """
    if isinstance(data, bytes) or len(data) > commands.INPUT_CHARACTERS_MAX:
        return _run_with_input(endpoint, asked, data, timeout_s, on_stdout, on_stderr)
    gathered = Gathered(asked.errors, asked.keep_bytes)
    heard = {"stdout": on_stdout, "stderr": on_stderr}
    body = json.dumps(asked.members() | {"input": data}).encode()
    read_s = math.inf if timeout_s is None else timeout_s
    try:
        with (
            platform.time_limit(timeout_s) as check,
            endpoint.stream("POST", "/exec", content=body, read_timeout_s=read_s) as answer,
        ):
            if answer.status_code != httpx2.codes.OK:
                raise commands.refusal(answer.status_code, answer.read(), endpoint.sandbox_id)
            for line in answer.iter_lines():  # to the very end, so that the connection can be used again
                found = commands.read_line(line)
                if isinstance(found, int):
                    gathered.exit_code = found
                    continue
                text, hear = gathered.add(found), heard[found.stream]
                if hear is not None and text:
                    hear(text)
                check()
    except TimeoutError as error:
        raise _late(asked, timeout_s, gathered) from error
    if gathered.exit_code is None:
        raise commands.disconnected("")
    return gathered.result()


def _run_with_input(
    endpoint: Endpoint,
    asked: Asked,
    data: str | bytes,
    timeout_s: float | None,
    on_stdout: OnText | None,
    on_stderr: OnText | None,
) -> CommandResult:
    """Input that is no text, or much, is sent beside the reading, by a task or thread of its own."""
    with Command.start(endpoint, asked) as command, platform.beside(lambda: _feed(command, data)):
        try:
            return command.wait(timeout_s, on_stdout=on_stdout, on_stderr=on_stderr)
        except DeadlineError as error:
            command.kill()
            text = f"`{asked}` took longer than {timeout_s:g} s and was ended"
            raise DeadlineError(text, LONGER, stdout=error.stdout, stderr=error.stderr) from error


def _feed(command: Command, data: str | bytes) -> None:
    with contextlib.suppress(EmberboxError):  # it has ended without reading all
        command.send(data)
        command.close_stdin()


LONGER = "give a longer timeout_s, or start() it in the background"


def _late(asked: Asked, timeout_s: float | None, gathered: Gathered) -> DeadlineError:
    out, err = gathered.texts()
    return DeadlineError(f"`{asked}` took longer than {timeout_s:g} s and was ended", LONGER, stdout=out, stderr=err)
