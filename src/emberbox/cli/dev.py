"""`emberbox dev`: an application in a microVM while it is being written, built again whenever a file changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from emberbox.cli.context import Server, command_name
from emberbox.cli.local_port import HOST, LocalPort
from emberbox.cli.progress import BuildView, Timeline
from emberbox.cli.server import running_server
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

if TYPE_CHECKING:
    from emberbox_sdk import AsyncClient, AsyncImage, AsyncSandbox

DEFINITION: Final = "microvm-image.json"
"""What CreateMicrovmImage is told besides where the code is."""

_MEMBERS: Final = ("name", "resources", "hooks", "environmentVariables")
_NAME_CHARACTERS_MAX: Final = 64
_PORT_MAX: Final = 65535
_END_TIMEOUT_S: Final = limit_s(30.0)
_END_POLL_S: Final = 0.2
_IDLE_S: Final = 900
"""After so long without a request it is suspended, and resumed by the next one: also when this was killed meanwhile."""


@dataclass(frozen=True, slots=True)
class Definition:
    """An application's directory, and how its image is made.

    Args:
        directory: has the Dockerfile.
        name: of the image.
        options: what else `Image.build` is told.
    """

    directory: Path
    name: str
    options: dict[str, Any] = field(default_factory=dict)


def dev(
    directory: Annotated[Path, typer.Argument(help="Has a Dockerfile; `emberbox init` makes one.")] = Path(),
    port: Annotated[int, typer.Option(help="The port of 127.0.0.1 that leads to it; 0 takes a free one.")] = 8080,
    app_port: Annotated[int, typer.Option(help="The port that the application listens on.")] = 8080,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all lines of the build's log.")] = False,
) -> None:
    """Build a directory, run it at http://127.0.0.1:8080/, and again whenever a file changes, until Ctrl-C."""
    if not (0 <= port <= _PORT_MAX and 0 < app_port <= _PORT_MAX):
        raise HostError(f"a port is a number up to {_PORT_MAX}")
    definition = read_definition(directory)
    timeline = Timeline(Console())
    with running_server(timeline) as server:

        def begin(client: AsyncClient, local: LocalPort) -> Development:
            return Development(definition, app_port, timeline, client, local, verbose=verbose)

        tell_address: Callable[[str], object] = webbrowser.open if open_it else lambda _url: None
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_develop(server, begin, port, tell_address))


def read_definition(directory: Path) -> Definition:
    """Return what a directory says of its image.

    Raises:
        HostError: there is no Dockerfile, or `microvm-image.json` cannot be used; the text says what to write.
    """
    if not (directory / "Dockerfile").is_file():
        raise HostError(f"there is no Dockerfile in {directory}; `{command_name()} init {directory}` makes one")
    path = directory / DEFINITION
    try:
        members = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
    if not isinstance(members, dict) or (unknown := sorted(set(members) - set(_MEMBERS))):
        named = ", ".join(unknown) if isinstance(members, dict) else "it is no object"
        raise HostError(f"{path}: {named}: it may have {', '.join(_MEMBERS)}, as CreateMicrovmImage takes them")
    try:
        resources = members.get("resources") or [{}]
        options = {
            "memory_mib": resources[0].get("minimumMemoryInMiB", 512),
            "hooks": members.get("hooks"),
            "environment": members.get("environmentVariables"),
        }
    except (AttributeError, IndexError, KeyError, TypeError):
        raise HostError(f'{path}: resources: it is [{{"minimumMemoryInMiB": 512}}] or the like') from None
    return Definition(directory, members.get("name") or _name(directory), options)


def _name(directory: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", directory.resolve().name).strip("-")
    return name[:_NAME_CHARACTERS_MAX] or "app"


async def _develop(
    server: Server,
    begin: Callable[[AsyncClient, LocalPort], Development],
    port: int,
    tell_address: Callable[[str], object],
) -> None:
    """Run the application until this is interrupted."""
    from watchfiles import awatch

    from emberbox_sdk import AsyncClient

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with AsyncClient(server.config()) as client:
            local = LocalPort(server.gateway_address, client.tls)
            async with local.listening(port) as listening:
                work = begin(client, local)
                url = f"http://{HOST}:{listening}/"
                try:
                    await work.renew(url)
                    tell_address(url)
                    async for _ in awatch(work.definition.directory, raise_interrupt=False):
                        await work.renew(url)
                finally:
                    await work.end()


class Development:
    """The application's image and its microVM, of which there is one at a time.

    Attributes:
        definition: what is built.
        image: the version that runs; None before the first.

    Args:
        definition: see above.
        app_port: where it listens.
        timeline: where to show it.
        client: builds and launches it.
        local: the port that leads to it.
        verbose: show all of builds' logs.
    """

    def __init__(
        self,
        definition: Definition,
        app_port: int,
        timeline: Timeline,
        client: AsyncClient,
        local: LocalPort,
        *,
        verbose: bool,
    ) -> None:
        self.definition = definition
        self.image: AsyncImage | None = None
        self._app_port = app_port
        self._timeline = timeline
        self._client = client
        self._local = local
        self._verbose = verbose
        self._sandbox: AsyncSandbox | None = None
        self._showing: asyncio.Task[None] | None = None

    async def renew(self, url: str) -> None:
        """Build what has changed and run it in place of what runs; where that fails, what runs goes on."""
        from emberbox_sdk.errors import BuildError, EmberboxError

        try:
            image = await self._build()
            if image is None:
                return
            since_ms = round(time.time() * 1000)
            sandbox = await self._launch(image)
        except BuildError as error:
            self._failed(f"{error.reason}; `{command_name()} logs {self.definition.name}` has the whole log")
            return
        except EmberboxError as error:
            self._failed(str(error))
            return
        before, old = self._sandbox, self.image
        self._sandbox, self.image = sandbox, image
        self._local.target = await sandbox.url(self._app_port)
        await self._show(sandbox, since_ms)
        self._timeline.say(url)
        if before is not None and old is not None:
            await self._drop(before, old)

    def _failed(self, reason: str) -> None:
        self._timeline.warn(reason)
        goes_on = "" if self._sandbox is None else "what ran before goes on; "
        self._timeline.say(f"{goes_on}it is built again when a file changes")

    async def _build(self) -> AsyncImage | None:
        """Return the image as it is to be; None where that runs already."""
        from emberbox_sdk import AsyncImage

        with self._timeline.step(f"image {self.definition.name}") as step:
            view = BuildView(self._timeline.quote, step.tell, everything=self._verbose)
            image = await AsyncImage.build(
                self.definition.directory,
                name=self.definition.name,
                on_progress=view.take,
                client=self._client,
                **self.definition.options,
            )
            has_changed = image != self.image
            step.note = f"version {image.version}" if has_changed else "as it was"
        return image if has_changed else None

    async def _launch(self, image: AsyncImage) -> AsyncSandbox:
        from emberbox_sdk import AsyncSandbox

        with self._timeline.step("microVM launched") as step:
            sandbox = await AsyncSandbox.create(
                image, version=image.version, suspend_after_idle_s=_IDLE_S, client=self._client
            )
            step.note = sandbox.id
        return sandbox

    async def _show(self, sandbox: AsyncSandbox, since_ms: int) -> None:
        """Show what the application has written there since then, and from now on."""
        await self._stop_showing()
        self._showing = asyncio.create_task(self._follow(sandbox, since_ms))

    async def _follow(self, sandbox: AsyncSandbox, since_ms: int) -> None:
        from emberbox_sdk import AsyncLogs
        from emberbox_sdk.wire import log_group

        group = log_group(self.definition.name)
        async for line in AsyncLogs(self._client, group, owner=sandbox.id, since_ms=since_ms).follow():
            self._timeline.quote(line.message)

    async def _stop_showing(self) -> None:
        if self._showing is not None:
            self._showing.cancel()
            await asyncio.gather(self._showing, return_exceptions=True)

    async def _drop(self, sandbox: AsyncSandbox, image: AsyncImage) -> None:
        """End the microVM of before, and remove the version that it was launched from."""
        from emberbox_sdk import State, wire
        from emberbox_sdk.errors import ApiError

        await sandbox.terminate()
        with contextlib.suppress(ApiError, TimeoutError):  # somebody has launched it too, or it does not end
            async with asyncio.timeout(_END_TIMEOUT_S):
                while (await sandbox.info()).state is not State.TERMINATED:  # noqa: ASYNC110 - the API tells only who asks
                    await asyncio.sleep(_END_POLL_S)
            await self._client.call(wire.delete_image_version(image.arn, image.version))

    async def end(self) -> None:
        """End the microVM, and say what stays."""
        self._local.target = None
        await self._stop_showing()
        if self._sandbox is not None:
            with self._timeline.step("microVM terminated"):
                await self._sandbox.terminate()
            name = self.definition.name
            self._timeline.say(f"the image {name} stays; `{command_name()} images rm {name}` removes it")
