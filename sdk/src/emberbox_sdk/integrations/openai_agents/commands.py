"""The life of a session of the Agents SDK, and its commands: what needs no files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agents.sandbox.errors import ExecTimeoutError, ExecTransportError, WorkspaceStartError
from agents.sandbox.session.base_sandbox_session import BaseSandboxSession
from agents.sandbox.session.pty_types import PtyExecUpdate, clamp_pty_yield_time_ms, resolve_pty_write_yield_time_ms
from agents.sandbox.types import ExecResult, User

from emberbox_sdk._async.command import AsyncCommand
from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk.config import Config
from emberbox_sdk.errors import DeadlineError, EmberboxError, NotFoundError, SandboxEndedError
from emberbox_sdk.integrations import shared
from emberbox_sdk.integrations.openai_agents.processes import Processes
from emberbox_sdk.integrations.openai_agents.state import EmberboxSandboxSessionState
from emberbox_sdk.results import CommandResult, State

START_WAIT_S = 10.0
WRITE_WAIT_S = 0.25
SUDO_WORDS = 4
"""Of `sudo -u USER --`, which the framework puts before a command for another user."""


class CommandSession(BaseSandboxSession):
    """A microVM that runs commands for the framework, and is suspended or ended at the end of a run.

    Args:
        state: what is written down of it.
        sandbox: the microVM.
        config: of the server, for when it is started again; from the environment when missing.
    """

    state: EmberboxSandboxSessionState

    def __init__(self, state: EmberboxSandboxSessionState, sandbox: AsyncSandbox, config: Config | None) -> None:
        self.state = state
        self.ended = False
        self._sandbox: AsyncSandbox | None = sandbox
        self._config = config
        self._processes = Processes()
        self._has_root = False

    @property
    def sandbox(self) -> AsyncSandbox:
        """The SDK's object: to fork and roll back, and for whatever else the framework does not ask for.

        Raises:
            SandboxEndedError: the session was shut down.
        """
        if self._sandbox is None:
            raise SandboxEndedError(f"the session of {self.state.sandbox_id} was shut down", "resume it by its state")
        return self._sandbox

    # --- its life

    async def _ensure_backend_started(self) -> None:
        """Resume a microVM that is suspended, be it by this session."""
        if self._sandbox is None:
            self._sandbox = await AsyncSandbox.connect(self.state.sandbox_id, config=self._config)
        state = (await self._sandbox.info()).state
        if state is State.SUSPENDING:
            await self._sandbox.suspend()  # is under way: this waits for its end
        if state in (State.SUSPENDING, State.SUSPENDED):
            await self._sandbox.resume()

    async def _prepare_backend_workspace(self) -> None:
        root = self._workspace_root_path().as_posix()
        try:
            await self.sandbox.run(shared.making_directory(root), user="0", cwd="/", check=True)
        except EmberboxError as error:
            raise WorkspaceStartError(path=self._workspace_root_path(), cause=error, message=str(error)) from error
        self._has_root = True

    async def _after_start(self) -> None:
        """Remember that the workspace is there: another start of this session leaves what the agent made of it."""
        self._set_start_state_preserved(True)

    async def _shutdown_backend(self) -> None:
        if self._sandbox is None:
            return
        try:
            if self.state.options.pause_on_exit:
                await self._sandbox.suspend()
            else:
                await self.end()
        except (NotFoundError, SandboxEndedError):
            self.ended = True  # by itself, or by somebody else
        finally:
            await self._let_go()

    async def end(self) -> None:
        """End the microVM, whether it runs or is suspended, also after a shutdown."""
        if self.ended:
            return
        if self._sandbox is None:
            self._sandbox = await AsyncSandbox.connect(self.state.sandbox_id, config=self._config)
        try:
            await self._sandbox.terminate()
        finally:
            await self._let_go()
        self.ended = True

    async def _let_go(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.aclose()

    async def running(self) -> bool:
        """Return whether it runs now."""
        if self._sandbox is None:
            return False
        try:
            return (await self._sandbox.info()).state is State.RUNNING
        except EmberboxError:
            return False

    # --- commands

    async def _exec_internal(self, *command: str | Path, timeout: float | None = None) -> ExecResult:
        user, program = _split(command)
        try:
            result = await self.sandbox.run(
                program,
                cwd=self._cwd(),
                env=await self._variables(),
                user=user,
                timeout_s=timeout,
                errors="surrogateescape",
                keep_bytes=shared.OUTPUT_BYTES,
            )
        except DeadlineError as error:
            raise ExecTimeoutError(command=command, timeout_s=timeout, cause=error) from error
        except EmberboxError as error:
            raise ExecTransportError(command=command, cause=error, message=str(error)) from error
        return _exec_result(result)

    def supports_pty(self) -> bool:
        """Return that commands may run on between two calls."""
        return True

    async def pty_exec_start(
        self,
        *command: str | Path,
        timeout: float | None = None,
        shell: bool | list[str] = True,
        user: str | User | None = None,
        tty: bool = False,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it has written by its end, or after `yield_time_s` (10)."""
        whose, program = _split(self._prepare_exec_command(*command, shell=shell, user=user))
        cwd, env = self._cwd(), await self._variables()
        begin = self.sandbox.pty if tty else self.sandbox.start

        async def start() -> AsyncCommand:
            return await begin(program, cwd=cwd, env=env, user=whose)

        wait_s = START_WAIT_S if yield_time_s is None else yield_time_s
        try:
            return await self._processes.start(
                start,
                tty=tty,
                timeout_s=timeout,
                wait_ms=clamp_pty_yield_time_ms(int(wait_s * 1000)),
                max_output_tokens=max_output_tokens,
            )
        except EmberboxError as error:
            raise ExecTransportError(command=command, cause=error, message=str(error)) from error

    async def pty_write_stdin(
        self,
        *,
        session_id: int,
        chars: str,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Type into a command, and return what it has written by its end, or after `yield_time_s` (0.25)."""
        wait_s = WRITE_WAIT_S if yield_time_s is None else yield_time_s
        wait_ms = resolve_pty_write_yield_time_ms(yield_time_ms=int(wait_s * 1000), input_empty=not chars)
        return await self._processes.write(session_id, chars, wait_ms=wait_ms, max_output_tokens=max_output_tokens)

    async def pty_terminate_all(self) -> None:
        """End the commands that run on."""
        await self._processes.end_all()

    def _cwd(self) -> str:
        return str(self.state.manifest.root) if self._has_root else "/"

    async def _variables(self) -> dict[str, str]:
        return {**self.state.options.env, **await self.state.manifest.environment.resolve()}


def _split(command: Sequence[str | Path]) -> tuple[str | None, list[str]]:
    """Return the user that the framework has written before a command, as for sudo, and the command alone."""
    words = [str(word) for word in command]
    if len(words) > SUDO_WORDS and words[:2] == ["sudo", "-u"] and words[3] == "--":
        return words[2], words[SUDO_WORDS:]
    return None, words


def _exec_result(result: CommandResult) -> ExecResult:
    stdout, stderr = (text.encode(errors="surrogateescape") for text in (result.stdout, result.stderr))
    if result.truncated:
        stderr += f"\nemberbox: output was cut after {shared.OUTPUT_BYTES} bytes\n".encode()
    return ExecResult(stdout=stdout, stderr=stderr, exit_code=result.exit_code)
