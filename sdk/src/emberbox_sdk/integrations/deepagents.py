"""LangChain's deepagents: a sandbox as the backend of an agent's files and commands (docs/frameworks.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from emberbox_sdk._sync.sandbox import Sandbox
from emberbox_sdk.errors import AccessError, ConflictError, DeadlineError, NotFoundError
from emberbox_sdk.integrations import shared
from emberbox_sdk.results import CommandResult

with shared.framework("deepagents"):
    from deepagents.backends.protocol import (
        FILE_NOT_FOUND,
        INVALID_PATH,
        IS_DIRECTORY,
        PERMISSION_DENIED,
        ExecuteResponse,
        FileDownloadResponse,
        FileUploadResponse,
    )
    from deepagents.backends.sandbox import BaseSandbox

TIMEOUT_S = 30 * 60
SHELL = ("/bin/sh", "-c")
THREADS = 16

T = TypeVar("T")


class EmberboxBackend(BaseSandbox):
    """A sandbox as `create_deep_agent(backend=...)` takes it; ending the sandbox is its owner's.

    The framework does most with files by commands, so the image needs `python3` and GNU's `grep`. A suspended sandbox
    that was created with `suspend_after_idle_s` is resumed by what the agent does next; `sandbox.resume()` resumes any.

    Args:
        sandbox: where the agent works.
        user: whose rights it has there; the application's when missing.
        cwd: where its commands start; the application's directory when missing.
        shell: what a command is given to.
        timeout_s: how long a command may take for which the framework names no time.
        keep_bytes: how much of a command's output is kept.

    Attributes:
        sandbox: as it was given.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        user: str | None = None,
        cwd: str | None = None,
        shell: Sequence[str] = SHELL,
        timeout_s: int = TIMEOUT_S,
        keep_bytes: int = shared.OUTPUT_BYTES,
    ) -> None:
        self.sandbox = sandbox
        self._user = user
        self._cwd = cwd
        self._shell = shell
        self._timeout_s = timeout_s
        self._keep_bytes = keep_bytes
        # Those that a loop has by itself are few on a small machine, and a command may hold one for half an hour.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="emberbox")

    @property
    def id(self) -> str:
        """The sandbox's, by which `Sandbox.connect` finds it again."""
        return self.sandbox.id

    # --- commands

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a line of shell; both outputs are one, in the order in which they were written.

        Args:
            command: for the shell.
            timeout: how many seconds it may take, 0 for any; then it is ended, and its exit code is 124.

        Raises:
            EmberboxError: the sandbox has ended, or cannot be reached.
        """
        allowed_s = self._timeout_s if timeout is None else timeout
        program = shared.merged(self._shell, command)
        try:
            result = self.sandbox.run(
                program, cwd=self._cwd, user=self._user, timeout_s=allowed_s or None, keep_bytes=self._keep_bytes
            )
        except DeadlineError as error:
            told = shared.with_last_line(error.stdout, f"Error: it took longer than {allowed_s} seconds and was ended.")
            return ExecuteResponse(told, shared.TIMED_OUT)
        return ExecuteResponse(result.stdout, result.exit_code, result.truncated)

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Do what `execute` does, in a thread of this backend's own."""
        return await self._in_thread(lambda: self.execute(command, timeout=timeout))

    # --- files

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files; missing directories are made, and the mode of a file that is there stays.

        Args:
            files: paths, which are absolute, and contents.
        """
        return [FileUploadResponse(path, self._upload(path, content)) for path, content in files]

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Do what `upload_files` does, in a thread of this backend's own."""
        return await self._in_thread(lambda: self.upload_files(files))

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files.

        Args:
            paths: absolute.
        """
        return [self._download(path) for path in paths]

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Do what `download_files` does, in a thread of this backend's own."""
        return await self._in_thread(lambda: self.download_files(paths))

    # --- how

    def _upload(self, path: str, content: bytes) -> str | None:
        if not path.startswith("/"):
            return INVALID_PATH
        program, data = shared.writing(path), shared.as_input(content)
        result = self.sandbox.run(program, stdin=data, env=shared.PLAIN_WORDS, user=self._user)
        return None if result.ok else _name_failure(result)

    def _download(self, path: str) -> FileDownloadResponse:
        if not path.startswith("/"):
            return FileDownloadResponse(path, error=INVALID_PATH)
        try:
            content = self._read(path)
        except NotFoundError:
            return FileDownloadResponse(path, error=FILE_NOT_FOUND)
        except AccessError:
            return FileDownloadResponse(path, error=PERMISSION_DENIED)
        except ConflictError as error:
            return FileDownloadResponse(path, error=self._name_conflict(path, error))
        if content is None:
            return FileDownloadResponse(path, error=str(shared.too_large(shared.FILE_BYTES_MAX)))
        return FileDownloadResponse(path, content)

    def _read(self, path: str) -> bytes | None:
        content = bytearray()
        with self.sandbox.files.stream(path, user=self._user) as pieces:
            for piece in pieces:
                content += piece
                if len(content) > shared.FILE_BYTES_MAX:
                    return None
        return bytes(content)

    def _name_conflict(self, path: str, error: ConflictError) -> str:
        """Return what a path that is no file is. Where the sandbox is what does not run, that is raised."""
        result = self.sandbox.run(["test", "-d", path], user=self._user)
        return IS_DIRECTORY if result.ok else str(error)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _name_failure(result: CommandResult) -> str:
    """Return the framework's word for why a file could not be written, or else the shell's own."""
    told = result.stderr.strip()
    if "ermission denied" in told:
        return PERMISSION_DENIED
    if "s a directory" in told:
        return IS_DIRECTORY
    if "ot a directory" in told or "File exists" in told:
        return INVALID_PATH
    return told or f"it failed with {result.exit_code}"
