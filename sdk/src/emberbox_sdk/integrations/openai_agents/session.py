"""A session of the Agents SDK: a microVM whose commands, files and ports an agent has, below one directory."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from agents.sandbox.errors import (
    ExposedPortUnavailableError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
)
from agents.sandbox.session.bounded_read import collect_bounded
from agents.sandbox.session.runtime_helpers import RESOLVE_WORKSPACE_PATH_HELPER, RuntimeHelperScript
from agents.sandbox.types import ExposedPortEndpoint, User
from agents.sandbox.util.tar_utils import UnsafeTarMemberError, validate_tar_bytes

from emberbox_sdk.errors import EmberboxError, NotFoundError
from emberbox_sdk.integrations import shared
from emberbox_sdk.integrations.openai_agents import workspace
from emberbox_sdk.integrations.openai_agents.commands import CommandSession
from emberbox_sdk.integrations.openai_agents.state import BACKEND_ID

HTTPS_PORT = 443


class EmberboxSandboxSession(CommandSession):
    """A microVM as the framework's agents use it; `EmberboxSandboxClient` makes it."""

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
        """Return a file of 256 MiB at most, open; it is kept here on the disk where it is large."""
        async with self._open(path, user) as pieces:
            return await workspace.keep(pieces, shared.FILE_BYTES_MAX)

    async def _read_bounded(self, path: Path, *, max_bytes: int) -> bytes:
        async with self._open(path, None) as pieces:
            return await collect_bounded(pieces, max_bytes)

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        """Write a file; missing directories are made, and the mode of one that is there stays."""
        content = workspace.read_all(path, data)
        place = await self._validate_path_access(path, for_write=True)
        program, given = shared.writing(place.as_posix()), shared.as_input(content)
        try:
            await self.sandbox.run(program, stdin=given, cwd="/", env=shared.PLAIN_WORDS, user=_name(user), check=True)
        except EmberboxError as error:
            raise WorkspaceArchiveWriteError(path=place, context={"reason": str(error)}, cause=error) from error

    async def persist_workspace(self) -> io.IOBase:
        """Return the workspace as an archive, without what the manifest and the framework leave out."""
        root = self._workspace_root_path()
        skipped = sorted(self._persist_workspace_skip_relpaths())
        try:
            return await workspace.pack(self.sandbox, root, skipped, self._archive_path())
        except EmberboxError as error:
            raise WorkspaceArchiveReadError(path=root, context={"reason": str(error)}, cause=error) from error

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Unpack such an archive into the workspace."""
        root = self._workspace_root_path()
        content = workspace.read_all(root, data)
        try:
            validate_tar_bytes(content, allow_external_symlink_targets=False)
            await workspace.unpack(self.sandbox, root, content, self._archive_path())
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


def _name(user: str | User | None) -> str | None:
    return user.name if isinstance(user, User) else user
