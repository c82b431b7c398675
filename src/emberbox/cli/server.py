"""`emberbox up`, `down` and `status`: the life of the server process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from emberbox.cli.clients import Mend, find_name_problems, find_trust_problems, mend_clients
from emberbox.cli.context import Server, find_server, get_server, log_path, read_server
from emberbox.cli.microvms import format_bytes, list_microvms
from emberbox.cli.progress import Timeline, waiting
from emberbox.model.boundary import describe_boundary
from emberbox.model.errors import HostError
from emberbox.settings import Settings, load
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

START_TIMEOUT_S = limit_s(1800.0)
"""The first start fetches the guest kernel and makes the base image."""

STOP_TIMEOUT_S = limit_s(180.0)
"""A clean stop suspends what runs."""

_POLL_S = 0.1


def up(
    detach: Annotated[bool, typer.Option("--detach", help="Start it in the background.")] = False,
    mend: Mend = False,
) -> None:
    """Start the server; in the foreground, Ctrl-C stops it."""
    settings = load()
    if mend:
        asyncio.run(mend_clients(settings, print))
    running = find_server(settings.home)
    if running is not None:
        message = f"a server runs already (pid {running.pid})"
        if not detach:
            raise HostError(f"{message}; `emberbox down` stops it")
        print(message)
    elif detach:
        _, server = start_detached(settings, lambda line: print(line, file=sys.stderr))
        _show(server, Console())
        print(f"its log: {log_path(settings.home)}")
        for problem in asyncio.run(find_trust_problems(settings, server)):
            print(problem, file=sys.stderr)
    else:
        run_foreground(settings)


def down(
    timeout: Annotated[float, typer.Option(help="Seconds to wait for it to end.")] = STOP_TIMEOUT_S,
) -> None:
    """Stop the server; microVMs that run are suspended."""
    server = get_server(load().home)
    begin = time.monotonic()
    with waiting("suspending what runs, and stopping the server"):
        stop_server(server.pid, timeout)
    print(f"stopped (pid {server.pid}) in {time.monotonic() - begin:.1f} s")


def status() -> None:
    """Show where the server is and what it holds."""
    from emberbox_sdk import Image
    from emberbox_sdk.wire import describe_server

    server = get_server(load().home)
    with server.open() as client:
        images = Image.list(client=client)
        states = sorted(info.state for info in list_microvms(client, ended=True))
        host, engines = client.host(), client.call(describe_server())["engines"]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    free, reserve = host.disk_free_bytes, host.disk_reserve_bytes
    room = f"{format_bytes(free)} free, the reserve is {format_bytes(reserve)}"
    if free < reserve:
        room += ": nothing new begins" + (", and what microVMs write is held up" if free < reserve // 2 else "")
    others = {f"guests on {one['name']}": describe_boundary(one["accelerator"]) for one in engines[1:]}
    _show(server, Console(), **others, images=str(len(images)), microvms=counted or "none", disk=room)


def run_foreground(settings: Settings) -> None:
    """Run the server until SIGTERM or SIGINT."""
    import uvloop

    from emberbox.app import serve

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("emberbox").setLevel(settings.log_level.upper())
    console = Console()
    telling: list[asyncio.Task[None]] = []

    def on_ready() -> None:
        server = read_server(settings.home)
        if server is None:
            return
        telling.append(asyncio.create_task(_tell_of_trust(settings, server)))
        if console.is_terminal:
            _show(server, console)
            console.print('ready; in another shell: eval "$(emberbox env)"', highlight=False)
        else:  # into a log
            print(f"ready: API {server.api_url}, gateway https://{server.gateway}", flush=True)

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None

        def stop() -> None:
            if not task.cancelling():  # a second signal must not cut the stop short: SIGKILL may, and loses nothing
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        telling.append(asyncio.create_task(_tell_of_names(settings)))
        with contextlib.suppress(asyncio.CancelledError):
            await serve(settings, on_ready)
        for told in telling:
            told.cancel()
        await asyncio.gather(*telling, return_exceptions=True)

    uvloop.run(run())


async def _tell_of_names(settings: Settings) -> None:
    """Say so where the names of endpoints do not resolve: nearly every client would fail and not say why."""
    for problem in await find_name_problems(settings):
        log.warning("%s", problem)


async def _tell_of_trust(settings: Settings, server: Server) -> None:
    """Say so where clients do not trust endpoints although they do all that `emberbox env` says."""
    try:
        problems = await find_trust_problems(settings, server)
    except HostError as error:
        problems = [str(error)]
    for problem in problems:
        log.warning("%s", problem)


def start_detached(settings: Settings, on_line: Callable[[str], None]) -> tuple[subprocess.Popen[bytes], Server]:
    """Start the server in a session of its own and wait until it is ready.

    Args:
        settings: only the home is taken from here; the server reads the rest as this process did.
        on_line: called with each line that it writes until then.

    Raises:
        HostError: it ended, or is not ready in time; then it does not run.
    """
    path = log_path(settings.home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begin = path.stat().st_size if path.exists() else 0
    with path.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "emberbox.cli.main", "up"],
            env={**os.environ, "EMBERBOX_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return child, _wait_ready(child, settings.home, _Tail(path, begin, on_line))
    except BaseException:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


class _Tail:
    """Hands on the lines that are added to a file."""

    def __init__(self, path: Path, offset: int, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._offset = offset
        self._on_line = on_line
        self.last = "it said nothing"

    def read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            *lines, _ = file.read().split(b"\n")
        for line in lines:
            self._offset += len(line) + 1
            text = line.decode(errors="replace").rstrip()
            if text:
                self.last = text
                self._on_line(text)


def _wait_ready(child: subprocess.Popen[bytes], home: Path, tail: _Tail) -> Server:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        tail.read()
        if ended:
            raise HostError(f"the server did not start: {tail.last} (log: {log_path(home)})")
        server = find_server(home)
        if server is not None and server.pid == child.pid:
            return server
        time.sleep(_POLL_S)
    raise HostError(f"the server was not ready within {START_TIMEOUT_S:g} s (log: {log_path(home)})")


@contextlib.contextmanager
def running_server(timeline: Timeline, *, keep: bool = False) -> Iterator[Server]:
    """Give the server that runs, or one that is started here.

    Args:
        timeline: where to show it.
        keep: what is started here is not stopped at the end.
    """
    settings = load()
    running = find_server(settings.home)
    if running is not None:
        timeline.say(f"the server runs already (pid {running.pid}) and stays")
        yield running
        return
    with timeline.step("server started") as step:
        child, server = start_detached(settings, timeline.quote)
        step.note = f"state in {server.home}"
    timeline.say(f"guests run by: {describe_boundary(server.accelerator)}")
    try:
        yield server
    finally:
        if not keep:
            with timeline.step("server stopped"):
                stop_server(child.pid)
                child.wait()


def stop_server(pid: int, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the server to end and wait until it has.

    Raises:
        HostError: it may not be stopped, or did not end in time.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        ended, _, _ = select.select([handle], [], [], timeout_s)
    except ProcessLookupError:
        return
    except PermissionError:
        raise HostError(f"the server (pid {pid}) belongs to another user; stop it as that user") from None
    finally:
        os.close(handle)
    if not ended:
        raise HostError(f"the server (pid {pid}) has not ended within {timeout_s:g} s; it may still be at it")


def _show(server: Server, console: Console, **more: str) -> None:
    table = Table.grid(padding=(0, 2))
    rows = {
        "server": f"pid {server.pid}",
        "API": server.api_url,
        "S3": server.s3_url,
        "gateway": f"https://{server.gateway}" + (f" and port {server.https_port}" if server.https_port else ""),
        "region": f"{server.region}, account {server.account_id}",
        "guests": describe_boundary(server.accelerator),
        "network": server.network,
        "home": str(server.home),
        **more,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table, highlight=False)
