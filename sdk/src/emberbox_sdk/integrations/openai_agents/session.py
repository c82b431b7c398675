"""A session of the Agents SDK: commands, files and ports of one microVM, below one directory."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
    WorkspaceStartError,
    WorkspaceWriteTypeError,
)
from agents.sandbox.session.base_sandbox_session import BaseSandboxSession
from agents.sandbox.session.bounded_read import collect_bounded
from agents.sandbox.session.pty_types import PtyExecUpdate, clamp_pty_yield_time_ms, resolve_pty_write_yield_time_ms
from agents.sandbox.session.runtime_helpers import RESOLVE_WORKSPACE_PATH_HELPER, RuntimeHelperScript
from agents.sandbox.types import ExecResult, ExposedPortEndpoint, User
from agents.sandbox.util.tar_utils import UnsafeTarMemberError, validate_tar_bytes

from emberbox_sdk._async.command import AsyncCommand
from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk.config import Config
from emberbox_sdk.errors import DeadlineError, EmberboxError, NotFoundError, SandboxEndedError
from emberbox_sdk.integrations import shared
from emberbox_sdk.integrations.openai_agents.processes import Processes
from emberbox_sdk.integrations.openai_agents.state import BACKEND_ID, EmberboxSandboxSessionState
from emberbox_sdk.results import CommandResult, State

START_WAIT_S = 10.0
WRITE_WAIT_S = 0.25
ARCHIVE_TIMEOUT_S = 600.0
HTTPS_PORT = 443
SUDO_WORDS = 4
"""Of `sudo -u USER --`, which the framework puts before a command for another user."""


class EmberboxSandboxSession(BaseSandboxSession):
    """A microVM as the framework's agents use it; `EmberboxSandboxClient` makes it.

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
            self._set_start_state_preserved(True)
        if (await self._sandbox.info()).state in (State.SUSPENDING, State.SUSPENDED):
            await self._sandbox.resume()

    async def _prepare_backend_workspace(self) -> None:
        root = self._workspace_root_path().as_posix()
        try:
            await self.sandbox.run(shared.making_directory(root), user="0", cwd="/", check=True)
        except EmberboxError as error:
            raise WorkspaceStartError(path=self._workspace_root_path(), cause=error, message=str(error)) from error
        self._has_root = True

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

    # --- files

    def _runtime_helpers(self) -> tuple[RuntimeHelperScript, ...]:
        return (RESOLVE_WORKSPACE_PATH_HELPER,)

    def _current_runtime_helper_cache_key(self) -> object | None:
        return self.state.sandbox_id

    async def _validate_path_access(self, path: Path | str, *, for_write: bool = False) -> Path:
        return await self._validate_remote_path_access(path, for_write=for_write)

    @asynccontextmanager
    async def _open(self, path: Path, user: str | User | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file of the workspace, for reading with the framework's errors."""
        place = await self._validate_path_access(path)
        try:
            async with self.sandbox.files.stream(place.as_posix(), user=_name(user)) as pieces:
                yield pieces
        except NotFoundError as error:
            raise WorkspaceReadNotFoundError(path=path, cause=error) from error
        except EmberboxError as error:
            raise WorkspaceArchiveReadError(path=path, cause=error) from error

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        """Return a file, open; it is kept here on the disk where it is large."""
        async with self._open(path, user) as pieces:
            return await _keep(pieces)

    async def _read_bounded(self, path: Path, *, max_bytes: int) -> bytes:
        async with self._open(path, None) as pieces:
            return await collect_bounded(pieces, max_bytes)

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        """Write a file; missing directories are made, and the mode of one that is there stays."""
        content = _content(path, data)
        place = await self._validate_path_access(path, for_write=True)
        program, given = shared.writing(place.as_posix()), shared.as_input(content)
        try:
            await self.sandbox.run(program, stdin=given, cwd="/", env=shared.PLAIN_WORDS, user=_name(user), check=True)
        except EmberboxError as error:
            raise WorkspaceArchiveWriteError(path=place, context={"reason": str(error)}, cause=error) from error

    async def persist_workspace(self) -> io.IOBase:
        """Return the workspace as an archive, without what the manifest and the framework leave out."""
        root = self._workspace_root_path()
        skipped = [f"--exclude=./{path.as_posix()}" for path in sorted(self._persist_workspace_skip_relpaths())]
        archive = self._archive_path()
        try:
            command = ["tar", "--create", f"--file={archive}", *skipped, f"--directory={root.as_posix()}", "."]
            await self.sandbox.run(command, cwd="/", check=True, timeout_s=ARCHIVE_TIMEOUT_S)
            async with self.sandbox.files.stream(archive) as pieces:
                kept = await _keep(pieces)
            await self.sandbox.files.remove(archive)
        except EmberboxError as error:
            raise WorkspaceArchiveReadError(path=root, context={"reason": str(error)}, cause=error) from error
        return kept

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Unpack such an archive into the workspace."""
        root, archive = self._workspace_root_path(), self._archive_path()
        content = _content(root, data)
        try:
            validate_tar_bytes(content, allow_external_symlink_targets=False)
            await self.sandbox.files.write(archive, content)
            command = ["tar", "--extract", f"--file={archive}", f"--directory={root.as_posix()}"]
            await self.sandbox.run(command, cwd="/", check=True, timeout_s=ARCHIVE_TIMEOUT_S)
            await self.sandbox.files.remove(archive)
        except (UnsafeTarMemberError, EmberboxError) as error:
            raise WorkspaceArchiveWriteError(path=root, context={"reason": str(error)}, cause=error) from error

    def _archive_path(self) -> str:
        return f"/tmp/emberbox-workspace-{self.state.session_id.hex}.tar"  # noqa: S108 - the sandbox's

    # --- ports

    async def _resolve_exposed_port(self, port: int) -> ExposedPortEndpoint:
        """Return where a port is; the headers that let a request in are those of `EmberboxSandboxClient.port`."""
        try:
            found = urlsplit((await self.sandbox.url(port)).url)
        except EmberboxError as error:
            raise ExposedPortUnavailableError(
                port=port,
                exposed_ports=self.state.exposed_ports,
                reason="backend_unavailable",
                context={"backend": BACKEND_ID, "detail": str(error)},
                cause=error,
            ) from error
        return ExposedPortEndpoint(host=found.hostname or "", port=found.port or HTTPS_PORT, tls=True)


def _split(command: Sequence[str | Path]) -> tuple[str | None, list[str]]:
    """Return the user that the framework has written before a command, as for sudo, and the command alone."""
    words = [str(word) for word in command]
    if len(words) > SUDO_WORDS and words[:2] == ["sudo", "-u"] and words[3] == "--":
        return words[2], words[SUDO_WORDS:]
    return None, words


def _name(user: str | User | None) -> str | None:
    return user.name if isinstance(user, User) else user


def _exec_result(result: CommandResult) -> ExecResult:
    stdout, stderr = (text.encode(errors="surrogateescape") for text in (result.stdout, result.stderr))
    if result.truncated:
        stderr += f"\nemberbox: output was cut after {shared.OUTPUT_BYTES} bytes\n".encode()
    return ExecResult(stdout=stdout, stderr=stderr, exit_code=result.exit_code)


def _content(path: Path, data: io.IOBase) -> bytes:
    """Return all that a file-like object has.

    Raises:
        WorkspaceWriteTypeError: that is no bytes.
    """
    content = data.read()
    if isinstance(content, str):
        return content.encode()
    if not isinstance(content, bytes | bytearray):
        raise WorkspaceWriteTypeError(path=path, actual_type=type(content).__name__)
    return bytes(content)


async def _keep(pieces: AsyncIterator[bytes]) -> io.IOBase:
    """Return a file with what is read, at its beginning; only what is small is kept in memory."""
    file = tempfile.SpooledTemporaryFile(max_size=shared.OUTPUT_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        async for piece in pieces:
            await asyncio.to_thread(file.write, piece)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file
