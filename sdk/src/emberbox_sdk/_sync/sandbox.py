# Made by sdk/make_sync.py from _async/sandbox.py; do not edit.
"""Sandboxes: microVMs with commands, files, code and ports; this is where a user begins."""

from __future__ import annotations

import builtins
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from emberbox_sdk import launches, wire
from emberbox_sdk._sync import command, platform
from emberbox_sdk._sync.client import Client
from emberbox_sdk._sync.code import Context, OnResult
from emberbox_sdk._sync.command import Command, OnText
from emberbox_sdk._sync.endpoint import Endpoint
from emberbox_sdk._sync.files import Files
from emberbox_sdk._sync.history import History
from emberbox_sdk._sync.images import Image, OnProgress
from emberbox_sdk._sync.ports import Port
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


class Sandbox:
    """A microVM of one's own. Get one with `create` or `connect`; as a context manager it ends what it created.

    Attributes:
        id: of the microVM.
        files: its files.
        history: what has happened to it, and what its application has written.
        endpoint: the name of its endpoint; empty after `connect(check=False)`, until `url()` has asked for it.
        source_stopped_ms: of a fork, how long the one that it comes from stood still for it.
    """

    def __init__(self, client: Client, sandbox_id: str, endpoint: str, *, owned: bool, closes: bool) -> None:
        self.id = sandbox_id
        self._client = client
        self._endpoint = Endpoint(client, sandbox_id, endpoint)
        self._owned = owned
        self._closes = closes
        self._contexts: dict[str, Context] = {}
        self._commands: list[Command] = []
        self.source_stopped_ms = 0
        self.endpoint = endpoint
        self.files = Files(self._endpoint)
        self.history = History(client, sandbox_id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    # --- getting one

    @classmethod
    def create(
        cls,
        image: str | Path | Image | Checkpoint | None = None,
        *,
        version: str | None = None,
        max_s: int | None = None,
        suspend_after_idle_s: int | None = None,
        auto_resume: bool = True,
        payload: str | None = None,
        egress: Sequence[str] | None = None,
        timeout_s: float = STATE_TIMEOUT_S,
        on_progress: OnProgress | None = None,
        client: Client | None = None,
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
        used = client or Client(config)
        try:
            arn, chosen = _find_image(used, image, on_progress)
            members = launches.ask(used.config, arn, version or chosen) | {
                "maximumDurationInSeconds": max_s,
                "runHookPayload": payload,
                "idlePolicy": launches.idle_policy(suspend_after_idle_s, auto_resume=auto_resume),
                "egressNetworkConnectors": None if egress is None else list(egress),
            }
            answer = used.call(wire.run_microvm(members))
            made = cls(used, answer["microvmId"], answer["endpoint"], owned=True, closes=client is None)
        except BaseException:
            if client is None:
                used.close()
            raise
        try:
            made._wait(State.RUNNING, timeout_s)
        except BaseException:
            made.terminate()
            raise
        return made

    @classmethod
    def connect(
        cls,
        sandbox_id: str,
        *,
        check: bool = True,
        client: Client | None = None,
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
        used = client or Client(config)
        if not check and used.config.gateway:
            return cls(used, sandbox_id, "", owned=False, closes=client is None)
        try:
            answer = used.call(wire.get_microvm(sandbox_id))
            if answer["state"] in ENDING:
                raise SandboxEndedError(f"{sandbox_id} has ended: {answer.get('stateReason') or ''}", CREATE)
        except BaseException:
            if client is None:
                used.close()
            raise
        return cls(used, sandbox_id, answer["endpoint"], owned=False, closes=client is None)

    @classmethod
    def list(
        cls, *, ended: bool = False, client: Client | None = None, config: Config | None = None
    ) -> builtins.list[SandboxInfo]:
        """Return the sandboxes that there are, newest first.

        Args:
            ended: also those that have ended, or are just ending.
            client: the server; a connection of its own when missing.
            config: of that; from the environment when missing.
        """
        used = client or Client(config)
        try:
            found, token = [], ""
            while True:
                page = used.call(wire.list_microvms(token))
                found += [read_info(item) for item in page["items"]]
                token = page.get("nextToken") or ""
                if not token:
                    return [info for info in found if ended or info.state not in ENDING]
        finally:
            if client is None:
                used.close()

    def info(self) -> SandboxInfo:
        """Return what the server knows of it."""
        return read_info(self._client.call(wire.get_microvm(self.id)))

    # --- commands

    def run(
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
        result = command.run(
            self._endpoint, asked, data=stdin, timeout_s=timeout_s, on_stdout=on_stdout, on_stderr=on_stderr
        )
        if check and not result.ok:
            raise CommandFailedError(str(asked), result)
        return result

    def start(
        self,
        program: Program,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        terminal: bool = False,
    ) -> Command:
        """Start a command in the background: with input, signals, and output as it comes.

        It is hung up when the sandbox object is closed; what is to outlive that is started with `setsid`.

        Args:
            program: a line for the shell, or program and arguments as a list.
            cwd: directory; the application's when missing.
            env: variables beside the application's own.
            user: whose rights it has; the application's when missing.
            terminal: whether it gets a terminal, 0 by 0 before the first `resize()`; `pty()` has one that is of use.
        """
        return self._keep(Asked(program, cwd, env, user, terminal=terminal))

    def pty(
        self,
        program: Program = PTY_PROGRAM,
        *,
        columns: int = 80,
        rows: int = 24,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Command:
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
        started = self.start(program, cwd=cwd, env=variables, user=user, terminal=True)
        started.resize(columns, rows)
        return started

    # --- code

    def context(self, name: str = DEFAULT_CONTEXT, *, cwd: str | None = None, user: str | None = None) -> Context:
        """Return an interpreter of this sandbox by its name; variables of different ones are apart.

        Args:
            name: letters, digits, - and _.
            cwd: where it starts.
            user: whose rights it has; the application's when missing.
        """
        if name not in self._contexts:
            self._contexts[name] = Context(self._endpoint, name, cwd, user)
        return self._contexts[name]

    def run_code(
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
        return self.context(context).run(
            code, timeout_s=timeout_s, on_stdout=on_stdout, on_stderr=on_stderr, on_result=on_result
        )

    # --- ports

    def url(self, port: int = DEFAULT_PORT) -> Port:
        """Return where a port of the sandbox is reached, and how: see `Port`."""
        if not self.endpoint:
            self.endpoint = self._endpoint.name = (self._client.call(wire.get_microvm(self.id)))["endpoint"]
        return Port(self._endpoint, port)

    # --- its life

    def suspend(self, *, timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Save it to the disk, memory and all, and let the machine go; returns when that is done."""
        self._let_go()
        self._client.call(wire.suspend(self.id))
        self._wait(State.SUSPENDED, timeout_s)

    def resume(self, *, timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Let a suspended one go on where it was; returns when it runs."""
        self._client.call(wire.resume(self.id))
        self._wait(State.RUNNING, timeout_s)

    def fork(self, count: int = 1, *, wait: bool = True, timeout_s: float = STATE_TIMEOUT_S) -> builtins.list[Self]:
        """Return sandboxes that go on from this instant, memory, processes, variables and files; this one runs on.

        Args:
            count: how many, from 1 to 100.
            wait: whether to return when they run, or at once; where one does not come to run, all are ended.
            timeout_s: how long to wait until they run.
        """
        answer = self._client.call(wire.fork_microvm(self.id, count))
        forks = [
            type(self)(self._client, item["microvmId"], item["endpoint"], owned=True, closes=False)
            for item in answer["items"]
        ]
        for fork in forks:
            fork.source_stopped_ms = answer.get("sourceStoppedInMilliseconds") or 0
        try:
            for fork in forks if wait else ():
                fork._wait(State.RUNNING, timeout_s)
        except BaseException:
            for fork in forks:
                fork.terminate()
            raise
        return forks

    def checkpoint(self, *, launchable: bool = False) -> Checkpoint:
        """Remember this instant: what `rollback` goes back to. It runs on.

        Args:
            launchable: also let `create` make others from it. It is then the newest version of the image, which
                whoever names the image alone gets.
        """
        answer = self._client.call(wire.snapshot_microvm(self.id, "ACTIVE" if launchable else "INACTIVE"))
        stopped_ms = answer.get("sourceStoppedInMilliseconds") or 0
        return Checkpoint(answer["imageArn"], answer["imageVersion"], stopped_ms, launchable)

    def rollback(self, checkpoint: Checkpoint | str, *, wait: bool = True, timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Make it what it was at a checkpoint of its own; what came after is lost.

        Args:
            checkpoint: the checkpoint, or its version.
            wait: whether to see that it runs.
            timeout_s: how long to wait until it runs.

        Raises:
            ApiError: the checkpoint is another sandbox's.
        """
        version = checkpoint if isinstance(checkpoint, str) else checkpoint.version
        self._let_go()
        self._client.call(wire.restore_microvm(self.id, version))
        if wait:
            self._wait(State.RUNNING, timeout_s)

    def terminate(self) -> None:
        """End it; nothing of it is left. One that has ended already is no error."""
        self._let_go()
        try:
            self._client.call(wire.terminate(self.id))
        except (ConflictError, NotFoundError):
            if (self.info()).state not in ENDING:
                raise

    def close(self) -> None:
        """Let connections go; the sandbox stays, and commands in the background are hung up."""
        self._let_go()
        for started in self._commands:
            started.close()
        if self._closes:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._owned:
                self.terminate()
        finally:
            self.close()

    # --- how

    def _keep(self, asked: Asked) -> Command:
        """Start a command and hold it: one that nobody holds would lose its connection, and be hung up."""
        started = Command.start(self._endpoint, asked)
        self._commands = [*(command for command in self._commands if command.exit_code is None), started]
        return started

    def _let_go(self) -> None:
        for context in self._contexts.values():
            context.close()

    def _wait(self, wanted: State, timeout_s: float) -> None:
        deadline, pause = time.monotonic() + timeout_s, POLL_FIRST_S
        while True:
            answer = self._client.call(wire.get_microvm(self.id))
            state = answer["state"]
            if state == wanted:
                return
            if state in ENDING:
                reason = answer.get("stateReason") or state
                raise SandboxEndedError(f"{self.id} has ended: {reason}", "`emberbox events` shows what happened")
            if time.monotonic() > deadline:
                hint = "`emberbox top` shows what the machine is busy with"
                raise DeadlineError(f"{self.id} is {state}, not {wanted}, after {timeout_s:g} s", hint)
            platform.sleep(pause)
            pause = min(pause * 1.3, POLL_MOST_S)


CREATE = "create another one with Sandbox.create()"


def _find_image(
    client: Client, image: str | Path | Image | Checkpoint | None, on_progress: OnProgress | None
) -> tuple[str, str | None]:
    """Return ARN and version of what a sandbox is to be created from."""
    if isinstance(image, Checkpoint):
        if not image.launchable:
            hint = "make it with checkpoint(launchable=True), or take fork()"
            raise ConfigurationError("this checkpoint is for rollback() alone", hint)
        return image.image_arn, image.version
    if isinstance(image, str):
        return client.find_image(image), None
    if isinstance(image, Path):
        image = Image.build(image, client=client, on_progress=on_progress)
    if image is None:
        image = Image.default(client=client, on_progress=on_progress)
    return image.arn, image.version
