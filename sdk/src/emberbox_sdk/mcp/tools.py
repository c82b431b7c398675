"""The tools: what a model is told of each, and what each does with the SDK."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from emberbox_sdk._async.client import AsyncClient
from emberbox_sdk._async.sandbox import AsyncSandbox
from emberbox_sdk.errors import DeadlineError, EmberboxError
from emberbox_sdk.results import Execution, State

OUTPUT_MAX = 50_000
IDLE_S = 900

P = ParamSpec("P")
T = TypeVar("T")

SandboxId = Annotated[str, Field(description="The sandbox's id, as create_sandbox or list_sandboxes gave it.")]
FilePath = Annotated[str, Field(description="An absolute path in the sandbox.")]
Seconds = Annotated[float, Field(description="After so many seconds it is ended.", gt=0, le=3600)]
Content = str | Image


@dataclass(frozen=True)
class SandboxFacts:
    """What a model is told of a sandbox."""

    sandbox_id: str
    state: str
    image: str


@dataclass(frozen=True)
class CommandFacts:
    """What a model is told of a command."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class EntryFacts:
    """What a model is told of a file."""

    path: str
    kind: str
    size: int


@dataclass(frozen=True)
class PortFacts:
    """What a model is told of a port."""

    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class CheckpointFacts:
    """What a model is told of a checkpoint."""

    checkpoint: str


def told(tool: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a model read our errors: MCP's own server shows it no others than those that were meant for it."""

    @functools.wraps(tool)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await tool(*args, **kwargs)
        except DeadlineError as error:
            written = shorten((error.stdout + error.stderr).strip())
            raise ToolError(f"{error}\n{written}" if written else str(error)) from error
        except (EmberboxError, OSError, ValueError) as error:
            raise ToolError(str(error)) from error

    return call


def shorten(text: str) -> str:
    """Return text of bearable length: its beginning and its end."""
    if len(text) <= OUTPUT_MAX:
        return text
    half = OUTPUT_MAX // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters are left out]\n{text[-half:]}"


class Tools:
    """The tools of one server.

    Args:
        client: the Emberbox server.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._sandboxes: dict[str, AsyncSandbox] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def all(self) -> dict[str, Callable[..., Any]]:
        """Return the tools by name."""
        tools: list[Callable[..., Any]] = [
            self.create_sandbox,
            self.list_sandboxes,
            self.run_command,
            self.run_code,
            self.read_file,
            self.write_file,
            self.list_files,
            self.get_port_url,
            self.suspend_sandbox,
            self.resume_sandbox,
            self.fork_sandbox,
            self.checkpoint_sandbox,
            self.rollback_sandbox,
            self.terminate_sandbox,
        ]
        return {tool.__name__: tool for tool in tools}

    async def _get(self, sandbox_id: str) -> AsyncSandbox:
        if sandbox_id not in self._sandboxes:
            self._sandboxes[sandbox_id] = await AsyncSandbox.connect(sandbox_id, client=self._client)
        return self._sandboxes[sandbox_id]

    @told
    async def create_sandbox(
        self,
        context: Context[Any, Any],
        image: Annotated[
            str, Field(description="Name of an image, or path of a local directory with a Dockerfile.")
        ] = "",
        suspend_after_idle_seconds: Annotated[
            int, Field(description="Saves it to disk after so long without use; the next use wakes it.", ge=60)
        ] = IDLE_S,
    ) -> SandboxFacts:
        """Create a sandbox: an isolated Linux machine (a microVM) of your own, with root rights, files and network.

        Without an image it is Debian with Python 3. The first time this builds that image, which takes a minute or
        two; after that it takes less than a second. Keep the id: every other tool needs it. Terminate it when done.
        """
        chosen: str | Path | None = image or None
        if chosen is not None and ("/" in image or image.startswith(".")) and not image.startswith("arn:"):
            chosen = Path(image)
        sandbox = await AsyncSandbox.create(
            chosen,
            suspend_after_idle_s=suspend_after_idle_seconds,
            client=self._client,
            on_progress=self._progress(context),
        )
        self._sandboxes[sandbox.id] = sandbox
        return await _facts(sandbox)

    def _progress(self, context: Context[Any, Any]) -> Callable[[str], None]:
        """Return what passes lines on to the client, where it asked for them."""
        count = 0

        def tell(line: str) -> None:
            nonlocal count
            count += 1
            task = asyncio.ensure_future(context.report_progress(count, message=line))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

        return tell

    @told
    async def list_sandboxes(self) -> list[SandboxFacts]:
        """List the sandboxes that exist, newest first, with their state: RUNNING, SUSPENDED and others."""
        found = await AsyncSandbox.list(client=self._client)
        return [SandboxFacts(sandbox_id=info.id, state=info.state, image=info.image) for info in found]

    @told
    async def run_command(
        self,
        sandbox_id: SandboxId,
        command: Annotated[str, Field(description="A line for /bin/sh, such as: ls -la && python3 app.py")],
        working_directory: Annotated[str, Field(description="The application's own when missing.")] = "",
        user: Annotated[
            str, Field(description="User of the sandbox, such as root; the application's when missing.")
        ] = "",
        stdin: Annotated[str, Field(description="Text for its input.")] = "",
        timeout_seconds: Seconds = 120,
    ) -> CommandFacts:
        """Run a shell command in a sandbox and wait for its end; returns exit code, output and error output.

        Each command is a process of its own: use `cd x && ...` or working_directory. To leave a server running, start
        it with: setsid nohup COMMAND >/tmp/log 2>&1 &
        """
        sandbox = await self._get(sandbox_id)
        result = await sandbox.run(
            command, cwd=working_directory or None, user=user or None, stdin=stdin, timeout_s=timeout_seconds
        )
        return CommandFacts(exit_code=result.exit_code, stdout=shorten(result.stdout), stderr=shorten(result.stderr))

    @told
    async def run_code(
        self,
        sandbox_id: SandboxId,
        code: Annotated[str, Field(description="Python. The value of the last line is shown, as in a notebook.")],
        context_name: Annotated[
            str, Field(description="Variables are kept between calls with the same name.", pattern=r"^[\w.-]{1,40}$")
        ] = "default",
        timeout_seconds: Seconds = 120,
    ) -> list[Content]:
        """Run Python code in a sandbox; variables, imports and functions are kept for the next call, as in a notebook.

        Returns what it printed, the value of its last line, and charts of matplotlib (where it is installed) as images.
        """
        sandbox = await self._get(sandbox_id)
        return show(await sandbox.run_code(code, context=context_name, timeout_s=timeout_seconds))

    @told
    async def read_file(self, sandbox_id: SandboxId, path: FilePath) -> str:
        """Read a text file of a sandbox. Of a very long one the middle is left out."""
        return shorten(await (await self._get(sandbox_id)).files.read(path))

    @told
    async def write_file(
        self, sandbox_id: SandboxId, path: FilePath, content: Annotated[str, Field(description="The whole text.")]
    ) -> str:
        """Write a text file in a sandbox, in place of what was there; missing directories are made."""
        await (await self._get(sandbox_id)).files.write(path, content)
        return f"{len(content.encode())} bytes are written to {path}"

    @told
    async def list_files(
        self,
        sandbox_id: SandboxId,
        path: Annotated[str, Field(description="An absolute path of a directory in the sandbox.")] = "/",
        depth: Annotated[int, Field(description="How many levels.", ge=1, le=10)] = 1,
    ) -> list[EntryFacts]:
        """List files and directories below a directory of a sandbox."""
        found = await (await self._get(sandbox_id)).files.list(path, depth=depth)
        return [EntryFacts(path=entry.path, kind=entry.kind, size=entry.size) for entry in found]

    @told
    async def get_port_url(
        self, sandbox_id: SandboxId, port: Annotated[int, Field(description="A TCP port.", ge=1, le=65535)]
    ) -> PortFacts:
        """Get the HTTPS address of a port that something in a sandbox listens on, with headers that let requests in.

        The headers hold for half an hour and are a secret: whoever has them reaches the port.
        """
        found = await (await self._get(sandbox_id)).url(port)
        return PortFacts(url=found.url, headers=await found.headers())

    @told
    async def suspend_sandbox(self, sandbox_id: SandboxId) -> SandboxFacts:
        """Save a sandbox to disk, memory and all, and free what it used. resume_sandbox lets it go on where it was."""
        sandbox = await self._get(sandbox_id)
        await sandbox.suspend()
        return await _facts(sandbox)

    @told
    async def resume_sandbox(self, sandbox_id: SandboxId) -> SandboxFacts:
        """Let a suspended sandbox go on where it was."""
        sandbox = await self._get(sandbox_id)
        await sandbox.resume()
        return await _facts(sandbox)

    @told
    async def fork_sandbox(
        self, sandbox_id: SandboxId, count: Annotated[int, Field(description="How many copies.", ge=1, le=100)] = 1
    ) -> list[SandboxFacts]:
        """Copy a running sandbox as it is at this instant: processes, variables of run_code and files.

        The copies and the original go on apart from each other. Use it to try several ways from one state.
        """
        forks = await (await self._get(sandbox_id)).fork(count)
        self._sandboxes |= {fork.id: fork for fork in forks}
        return [await _facts(fork) for fork in forks]

    @told
    async def checkpoint_sandbox(self, sandbox_id: SandboxId) -> CheckpointFacts:
        """Remember a sandbox as it is at this instant, so that rollback_sandbox can go back to it. It runs on."""
        made = await (await self._get(sandbox_id)).checkpoint()
        return CheckpointFacts(checkpoint=made.version)

    @told
    async def rollback_sandbox(
        self,
        sandbox_id: SandboxId,
        checkpoint: Annotated[str, Field(description="As checkpoint_sandbox of the same sandbox gave it.")],
    ) -> SandboxFacts:
        """Make a sandbox what it was at a checkpoint: memory, processes and files. What came after is lost."""
        sandbox = await self._get(sandbox_id)
        await sandbox.rollback(checkpoint)
        return await _facts(sandbox)

    @told
    async def terminate_sandbox(self, sandbox_id: SandboxId) -> str:
        """End a sandbox for good; nothing of it is left."""
        sandbox = await self._get(sandbox_id)
        await sandbox.terminate()
        del self._sandboxes[sandbox_id]
        return f"{sandbox_id} is ended"


async def _facts(sandbox: AsyncSandbox) -> SandboxFacts:
    info = await sandbox.info()
    return SandboxFacts(sandbox_id=info.id, state=State(info.state), image=info.image)


def show(execution: Execution) -> list[Content]:
    """Return what code did as text and images."""
    shown: list[Content] = []
    written = (("stdout", execution.stdout), ("stderr", execution.stderr))
    shown += [f"{name}:\n{shorten(text)}" for name, text in written if text]
    for result in execution.results:
        picture = result.png or result.jpeg
        if picture is not None:
            shown.append(Image(data=picture, format="png" if result.png else "jpeg"))
        else:
            shown.append(shorten(result.markdown or result.text))
    if execution.error is not None:
        shown.append(f"error:\n{shorten(execution.error.traceback)}")
    return shown or ["It ran without any output."]
