"""Code in a sandbox: interpreters whose variables stay (bridge.py, kernel.py), one for each context."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from importlib import resources
from typing import Any, Final

from emberbox_sdk._async import platform
from emberbox_sdk._async.command import AsyncCommand
from emberbox_sdk._async.endpoint import AsyncEndpoint
from emberbox_sdk.commands import Asked
from emberbox_sdk.errors import (
    ConfigurationError,
    DeadlineError,
    DisconnectedError,
    EmberboxError,
    NoInterpreterError,
)
from emberbox_sdk.results import Execution, ExecutionBuilder, Result

BRIDGE: Final = resources.files("emberbox_sdk").joinpath("bridge.py").read_text()
KERNEL: Final = resources.files("emberbox_sdk").joinpath("kernel.py").read_text()
NOT_FOUND: Final = 127
INTERRUPT_S: Final = 10.0
"""How long code that is interrupted may take to give in."""

OnText = Callable[[str], None]
OnResult = Callable[[Result], None]


class AsyncContext:
    """An interpreter with variables of its own, which last as long as the sandbox, over suspends and into forks.

    Args:
        endpoint: of the sandbox.
        name: two that have the same name are the same.
        cwd: where it starts; the user's home when missing.
        user: whose rights it has; the application's when missing.
    """

    def __init__(self, endpoint: AsyncEndpoint, name: str, cwd: str | None = None, user: str | None = None) -> None:
        if not re.fullmatch(r"[\w.-]{1,40}", name, re.ASCII) or name.startswith("."):
            raise ConfigurationError(f"{name!r} is no name for a context", "take letters, digits, - and _")
        self.name = name
        self._endpoint = endpoint
        self._asked = Asked(["python3", "-S", "-c", BRIDGE, name, cwd or "", KERNEL], user=user, cwd="/")
        self._bridge: AsyncCommand | None = None
        self._held = b""
        self._errors = b""
        self._turn = platform.Lock()

    async def run(
        self,
        code: str,
        *,
        timeout_s: float | None = 300.0,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
    ) -> Execution:
        """Run code and return what it wrote and showed, and how it ended. Pieces of code run one after the other.

        Args:
            code: Python; the value of its last line is shown when that is an expression. Any line may await.
            timeout_s: how long it may take; then it is interrupted, as with Ctrl-C.
            on_stdout: called with what it writes, as it writes.
            on_stderr: the same of its error output.
            on_result: called with each thing that it shows.

        Raises:
            NoInterpreterError: the image has no Python.
            DeadlineError: it took longer; the text says whether the variables are still there.
            DisconnectedError: the sandbox was suspended or has ended while it ran.
        """
        async with self._turn:
            bridge = await self._open()
            gathered = ExecutionBuilder()
            heard = {"stdout": on_stdout, "stderr": on_stderr}
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            await self._tell(bridge, {"type": "run", "code": code})
            try:
                while True:
                    message = await self._next(bridge, deadline)
                    shown = gathered.take(message)
                    if isinstance(shown, Result):
                        if on_result is not None:
                            on_result(shown)
                    elif shown is not None:
                        hear = heard[shown[0]]
                        if hear is not None:
                            hear(shown[1])
                    if message["type"] == "done":
                        return gathered.finish()
            except DeadlineError as error:
                raise await self._interrupt(bridge, gathered, timeout_s) from error

    async def restart(self) -> None:
        """Begin anew, without any variables."""
        async with self._turn:
            await self._end(await self._open())

    async def _end(self, bridge: AsyncCommand) -> None:
        await self._tell(bridge, {"type": "end"})
        await (self._bridge or bridge).wait(INTERRUPT_S)
        await self._drop()

    async def aclose(self) -> None:
        """Let the connection go; the interpreter and its variables stay."""
        await self._drop()

    async def _open(self) -> AsyncCommand:
        """Return the bridge; start one where there is none, or where a suspend has cut it."""
        if self._bridge is None:
            self._held = self._errors = b""
            self._bridge = await AsyncCommand.start(self._endpoint, self._asked)
        return self._bridge

    async def _drop(self) -> None:
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            await bridge.aclose()

    async def _tell(self, bridge: AsyncCommand, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            await bridge.send(line)
        except DisconnectedError:  # cut by a suspend, before anything was sent
            await self._drop()
            await (await self._open()).send(line)

    async def _next(self, bridge: AsyncCommand, deadline: float | None) -> dict[str, Any]:
        """Return the interpreter's next message.

        Raises:
            DeadlineError: there was none in time.
        """
        while b"\n" not in self._held:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
            try:
                output = await (self._bridge or bridge).read(left)
            except DisconnectedError:
                await self._drop()
                raise
            if output is None:
                raise await self._ended(bridge)
            if output.stream == "stderr":
                self._errors += output.data
            else:
                self._held += output.data
        line, _, self._held = self._held.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    async def _ended(self, bridge: AsyncCommand) -> EmberboxError:
        code = (self._bridge or bridge).exit_code
        told = self._errors.decode(errors="replace").strip()
        await self._drop()
        if code == NOT_FOUND:
            hint = "add `RUN apt-get update && apt-get install -y python3` to its Dockerfile, or take the default image"
            return NoInterpreterError("the image has no python3", hint)
        if told:
            return EmberboxError(f"the interpreter could not be started: {told}", "the image needs Python 3.8 or later")
        return DisconnectedError("the interpreter has ended", "the next run_code() starts one without variables")

    async def _interrupt(
        self, bridge: AsyncCommand, gathered: ExecutionBuilder, timeout_s: float | None
    ) -> DeadlineError:
        """Interrupt code that takes too long; end the interpreter where that does not help."""
        text = f"the code took longer than {timeout_s:g} s"
        await self._tell(bridge, {"type": "interrupt"})
        deadline = time.monotonic() + INTERRUPT_S
        try:
            while (message := await self._next(bridge, deadline))["type"] != "done":
                gathered.take(message)
            hint = "it was interrupted and the variables are still there; give a longer timeout_s"
        except DeadlineError:
            await self._end(bridge)
            hint = "it did not react, so its interpreter was ended and the variables are lost"
        done = gathered.finish()
        return DeadlineError(text, hint, stdout=done.stdout, stderr=done.stderr)
