"""Sandboxes: microVMs with commands, files, code and ports; this is where a user begins."""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from emberbox_sdk import launches, wire
from emberbox_sdk._async import command, platform
from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk._async.code import AsyncContext, OnResult
from emberbox_sdk._async.command import AsyncCommand, OnText
from emberbox_sdk._async.endpoint import AsyncEndpoint
from emberbox_sdk._async.files import AsyncFiles
from emberbox_sdk._async.history import AsyncHistory
from emberbox_sdk._async.images import AsyncImage, OnProgress
from emberbox_sdk._async.ports import AsyncPort
from emberbox_sdk.commands import PTY_PROGRAM, Asked, Program
from emberbox_sdk.config import Config
from emberbox_sdk.errors import (
    CommandFailedError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    NotFoundError,
    SandboxEndedError,
)
from emberbox_sdk.launches import read_info
from emberbox_sdk.results import Checkpoint, CommandResult, Execution, SandboxInfo, State

POLL_FIRST_S = 0.01
POLL_MOST_S = 0.5
STATE_TIMEOUT_S = 120.0
COMMAND_TIMEOUT_S = 300.0
DEFAULT_CONTEXT = "default"
DEFAULT_PORT = 8080
ENDING = (State.TERMINATING, State.TERMINATED)


class AsyncSandbox:
    """A microVM of one's own. Get one with `create` or `connect`; as a context manager it ends what it created.

    Attributes:
        id: of the microVM.
        files: its files.
        history: what has happened to it, and what its application has written.
        endpoint: the name of its endpoint; empty after `connect(check=False)`, until `url()` has asked for it.
        source_stopped_ms: of a fork, how long the one that it comes from stood still for it.
    """

    def __init__(self, client: AsyncClient, sandbox_id: str, endpoint: str, *, owned: bool, closes: bool) -> None:
        self.id = sandbox_id
        self._client = client
        self._endpoint = AsyncEndpoint(client, sandbox_id, endpoint)
        self._owned = owned
        self._closes = closes
        self._contexts: dict[str, AsyncContext] = {}
        self._commands: list[AsyncCommand] = []
        self.source_stopped_ms = 0
        self.endpoint = endpoint
        self.files = AsyncFiles(self._endpoint)
        self.history = AsyncHistory(client, sandbox_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    # --- getting one

    @classmethod
    async def create(
        cls,
        image: str | Path | AsyncImage | Checkpoint | None = None,
        *,
        version: str | None = None,
        max_s: int | None = None,
        suspend_after_idle_s: int | None = None,
        auto_resume: bool = True,
        payload: str | None = None,
        egress: Sequence[str] | None = None,
        timeout_s: float = STATE_TIMEOUT_S,
        on_progress: OnProgress | None = None,
        client: AsyncClient | None = None,
        config: Config | None = None,
    ) -> Self:
        """Create a sandbox and return it when it runs.

        Args:
            image: the name of an image, an image, a launchable checkpoint, or a directory with a Dockerfile, as a Path.
                Without one it is Debian with Python, which is built the first time.
            version: of the image; the newest when missing.
            max_s: how many seconds it lives at most, up to 28,800.
            suspend_after_idle_s: suspends it when nobody has spoken to it for so many seconds, 60 at least.
            auto_resume: whether a command or request then resumes it.
            payload: what the application's `/run` hook is given.
            egress: ARNs of the network connectors that it reaches others by; the internet when missing.
            timeout_s: how long to wait until it runs.
            on_progress: called with each line, where an image is built.
            client: the server; a connection of its own when missing.
            config: of that; from the environment when missing.

        Raises:
            SandboxEndedError: it ended at once; the text says why.
            DeadlineError: it does not run in time; it was terminated.
            ConfigurationError: `egress` is empty, which the API takes for none named, and so for the internet.
        """
        if egress is not None and not egress:
            hint = "leave it out for the internet, or name a connector that lets nothing pass (docs/network.md)"
            raise ConfigurationError("`egress` names no network connector", hint)
        used = client or AsyncClient(config)
        try:
            arn, chosen = await _find_image(used, image, on_progress)
            members = launches.ask(used.config, arn, version or chosen) | {
                "maximumDurationInSeconds": max_s,
                "runHookPayload": payload,
                "idlePolicy": launches.idle_policy(suspend_after_idle_s, auto_resume=auto_resume),
                "egressNetworkConnectors": None if egress is None else list(egress),
            }
            answer = await used.call(wire.run_microvm(members))
            made = cls(used, answer["microvmId"], answer["endpoint"], owned=True, closes=client is None)
        except BaseException:
            if client is None:
                await used.aclose()
            raise
        try:
            await made._wait(State.RUNNING, timeout_s)
        except BaseException:
            await made.terminate()
            raise
        return made

    @classmethod
    async def connect(
        cls,
        sandbox_id: str,
        *,
        check: bool = True,
        client: AsyncClient | None = None,
        config: Config | None = None,
    ) -> Self:
        """Return a sandbox that is there already. It is not resumed; leaving its block does not end it.

        Args:
            sandbox_id: of the sandbox.
            check: whether to ask first if it is there; without, the first use tells. Where the configuration names no
                gateway it is asked all the same, for the endpoint's name.
            client: the server; a connection of its own when missing.
            config: of that; from the environment when missing.

        Raises:
            NotFoundError: there is none.
            SandboxEndedError: it has ended.
        """
        used = client or AsyncClient(config)
        if not check and used.config.gateway:
            return cls(used, sandbox_id, "", owned=False, closes=client is None)
        try:
            answer = await used.call(wire.get_microvm(sandbox_id))
            if answer["state"] in ENDING:
                raise SandboxEndedError(f"{sandbox_id} has ended: {answer.get('stateReason') or ''}", CREATE)
        except BaseException:
            if client is None:
                await used.aclose()
            raise
        return cls(used, sandbox_id, answer["endpoint"], owned=False, closes=client is None)

    @classmethod
    async def list(
        cls, *, ended: bool = False, client: AsyncClient | None = None, config: Config | None = None
    ) -> builtins.list[SandboxInfo]:
        """Return the sandboxes that there are, newest first.

        Args:
            ended: also those that have ended, or are just ending.
            client: the server; a connection of its own when missing.
            config: of that; from the environment when missing.
        """
        used = client or AsyncClient(config)
        try:
            found, token = [], ""
            while True:
                page = await used.call(wire.list_microvms(token))
                found += [read_info(item) for item in page["items"]]
                token = page.get("nextToken") or ""
                if not token:
                    return [info for info in found if ended or info.state not in ENDING]
        finally:
            if client is None:
                await used.aclose()

    async def info(self) -> SandboxInfo:
        """Return what the server knows of it."""
        return read_info(await self._client.call(wire.get_microvm(self.id)))

    # --- commands

    async def run(
        self,
        program: Program,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: str | bytes = "",
        timeout_s: float | None = COMMAND_TIMEOUT_S,
        check: bool = False,
        errors: str = "replace",
        keep_bytes: int | None = None,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
    ) -> CommandResult:
        """Run a command to its end.

        Args:
            program: a line for the shell, or program and arguments as a list, without a shell.
            cwd: directory; the application's when missing.
            env: variables beside the application's own.
            user: whose rights it has, such as `root` or `1000:1000`; the application's when missing.
            stdin: its input.
            timeout_s: how long it may take; then it is ended.
            check: raise when it ends with another exit code than 0.
            errors: what becomes of bytes that are no UTF-8; with `surrogateescape` the text can be encoded to them.
            keep_bytes: how much of each output the result has; what comes after it is read, and dropped.
            on_stdout: called with what it writes, as it writes.
            on_stderr: the same of its error output.

        Raises:
            CommandFailedError: it was to be checked, and failed.
            DeadlineError: it took longer; what it wrote is in the error.
            ConflictError: the sandbox is suspended.
        """
        asked = Asked(program, cwd, env, user, errors=errors, keep_bytes=keep_bytes)
        result = await command.run(
            self._endpoint, asked, data=stdin, timeout_s=timeout_s, on_stdout=on_stdout, on_stderr=on_stderr
        )
        if check and not result.ok:
            raise CommandFailedError(str(asked), result)
        return result

    async def start(
        self,
        program: Program,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        terminal: bool = False,
    ) -> AsyncCommand:
        """Start a command in the background: with input, signals, and output as it comes.

        It is hung up when the sandbox object is closed; what is to outlive that is started with `setsid`.

        Args:
            program: a line for the shell, or program and arguments as a list.
            cwd: directory; the application's when missing.
            env: variables beside the application's own.
            user: whose rights it has; the application's when missing.
            terminal: whether it gets a terminal, 0 by 0 before the first `resize()`; `pty()` has one that is of use.
        """
        return await self._keep(Asked(program, cwd, env, user, terminal=terminal))

    async def pty(
        self,
        program: Program = PTY_PROGRAM,
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> AsyncCommand:
        """Start a command that has a terminal, a shell when none is named. All that it writes is `stdout`.

        Args:
            program: a line for the shell, or program and arguments as a list.
            columns: width of the terminal; `resize()` changes it.
            rows: height of the terminal.
            cwd: directory; the application's when missing.
            env: variables beside the application's own; TERM is xterm-256color when missing.
            user: whose rights it has; the application's when missing.
        """
        variables = {"TERM": "xterm-256color", **(env or {})}
        started = await self.start(program, cwd=cwd, env=variables, user=user, terminal=True)
        await started.resize(columns, rows)
        return started

    # --- code

    def context(self, name: str = DEFAULT_CONTEXT, *, cwd: str | None = None, user: str | None = None) -> AsyncContext:
        """Return an interpreter of this sandbox by its name; variables of different ones are apart.

        Args:
            name: letters, digits, - and _.
            cwd: where it starts.
            user: whose rights it has; the application's when missing.
        """
        if name not in self._contexts:
            self._contexts[name] = AsyncContext(self._endpoint, name, cwd, user)
        return self._contexts[name]

    async def run_code(
        self,
        code: str,
        *,
        context: str = DEFAULT_CONTEXT,
        timeout_s: float | None = COMMAND_TIMEOUT_S,
        on_stdout: OnText | None = None,
        on_stderr: OnText | None = None,
        on_result: OnResult | None = None,
    ) -> Execution:
        """Run Python code in an interpreter that keeps its variables. It needs Python in the image, not Jupyter.

        Args:
            code: its last line is shown when that is an expression; figures of matplotlib are shown at its end.
            context: the interpreter's name.
            timeout_s: how long it may take; then it is interrupted.
            on_stdout: called with what it writes, as it writes.
            on_stderr: the same of its error output.
            on_result: called with each thing that it shows.

        Raises:
            NoInterpreterError: the image has no Python.
            DeadlineError: it took longer.
        """
        return await self.context(context).run(
            code, timeout_s=timeout_s, on_stdout=on_stdout, on_stderr=on_stderr, on_result=on_result
        )

    # --- ports

    async def url(self, port: int = DEFAULT_PORT) -> AsyncPort:
        """Return where a port of the sandbox is reached, and how: see `AsyncPort`."""
        if not self.endpoint:
            self.endpoint = self._endpoint.name = (await self._client.call(wire.get_microvm(self.id)))["endpoint"]
        return AsyncPort(self._endpoint, port)

    # --- its life

    async def suspend(self, *, timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Save it to the disk, memory and all, and let the machine go; returns when that is done."""
        await self._let_go()
        await self._client.call(wire.suspend(self.id))
        await self._wait(State.SUSPENDED, timeout_s)

    async def resume(self, *, timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Let a suspended one go on where it was; returns when it runs."""
        await self._client.call(wire.resume(self.id))
        await self._wait(State.RUNNING, timeout_s)

    async def fork(
        self, count: int = 1, *, wait: bool = True, timeout_s: float = STATE_TIMEOUT_S
    ) -> builtins.list[Self]:
        """Return sandboxes that go on from this instant, memory, processes, variables and files; this one runs on.

        Args:
            count: how many, from 1 to 100.
            wait: whether to return when they run, or at once; where one does not come to run, all are ended.
            timeout_s: how long to wait until they run.
        """
        answer = await self._client.call(wire.fork_microvm(self.id, count))
        forks = [
            type(self)(self._client, item["microvmId"], item["endpoint"], owned=True, closes=False)
            for item in answer["items"]
        ]
        for fork in forks:
            fork.source_stopped_ms = answer.get("sourceStoppedInMilliseconds") or 0
        try:
            for fork in forks if wait else ():
                await fork._wait(State.RUNNING, timeout_s)
        except BaseException:
            for fork in forks:
                await fork.terminate()
            raise
        return forks

    async def checkpoint(self, *, launchable: bool = False) -> Checkpoint:
        """Remember this instant: what `rollback` goes back to. It runs on.

        Args:
            launchable: also let `create` make others from it. It is then the newest version of the image, which
                whoever names the image alone gets.
        """
        answer = await self._client.call(wire.snapshot_microvm(self.id, "ACTIVE" if launchable else "INACTIVE"))
        stopped_ms = answer.get("sourceStoppedInMilliseconds") or 0
        return Checkpoint(answer["imageArn"], answer["imageVersion"], stopped_ms, launchable)

    async def rollback(
        self, checkpoint: Checkpoint | str, *, wait: bool = True, timeout_s: float = STATE_TIMEOUT_S
    ) -> None:
        """Make it what it was at a checkpoint of its own; what came after is lost.

        Args:
            checkpoint: the checkpoint, or its version.
            wait: whether to see that it runs.
            timeout_s: how long to wait until it runs.

        Raises:
            ApiError: the checkpoint is another sandbox's.
        """
        version = checkpoint if isinstance(checkpoint, str) else checkpoint.version
        await self._let_go()
        await self._client.call(wire.restore_microvm(self.id, version))
        if wait:
            await self._wait(State.RUNNING, timeout_s)

    async def terminate(self) -> None:
        """End it; nothing of it is left. One that has ended already is no error."""
        await self._let_go()
        try:
            await self._client.call(wire.terminate(self.id))
        except (ConflictError, NotFoundError):
            if (await self.info()).state not in ENDING:
                raise

    async def aclose(self) -> None:
        """Let connections go; the sandbox stays, and commands in the background are hung up."""
        await self._let_go()
        for started in self._commands:
            await started.aclose()
        if self._closes:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._owned:
                await self.terminate()
        finally:
            await self.aclose()

    # --- how

    async def _keep(self, asked: Asked) -> AsyncCommand:
        """Start a command and hold it: one that nobody holds would lose its connection, and be hung up."""
        started = await AsyncCommand.start(self._endpoint, asked)
        self._commands = [*(command for command in self._commands if command.exit_code is None), started]
        return started

    async def _let_go(self) -> None:
        for context in self._contexts.values():
            await context.aclose()

    async def _wait(self, wanted: State, timeout_s: float) -> None:
        deadline, pause = time.monotonic() + timeout_s, POLL_FIRST_S
        while True:
            answer = await self._client.call(wire.get_microvm(self.id))
            state = answer["state"]
            if state == wanted:
                return
            if state in ENDING:
                reason = answer.get("stateReason") or state
                raise SandboxEndedError(f"{self.id} has ended: {reason}", "`emberbox events` shows what happened")
            if time.monotonic() > deadline:
                hint = "`emberbox top` shows what the machine is busy with"
                raise DeadlineError(f"{self.id} is {state}, not {wanted}, after {timeout_s:g} s", hint)
            await platform.sleep(pause)
            pause = min(pause * 1.3, POLL_MOST_S)


CREATE = "create another one with Sandbox.create()"


async def _find_image(
    client: AsyncClient, image: str | Path | AsyncImage | Checkpoint | None, on_progress: OnProgress | None
) -> tuple[str, str | None]:
    """Return ARN and version of what a sandbox is to be created from."""
    if isinstance(image, Checkpoint):
        if not image.launchable:
            hint = "make it with checkpoint(launchable=True), or take fork()"
            raise ConfigurationError("this checkpoint is for rollback() alone", hint)
        return image.image_arn, image.version
    if isinstance(image, str):
        return await client.find_image(image), None
    if isinstance(image, Path):
        image = await AsyncImage.build(image, client=client, on_progress=on_progress)
    if image is None:
        image = await AsyncImage.default(client=client, on_progress=on_progress)
    return image.arn, image.version
