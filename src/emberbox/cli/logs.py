"""`emberbox logs`: what builds and applications have written, as it is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from emberbox.cli.context import get_server
from emberbox.cli.progress import BuildView, live_line
from emberbox.model.errors import HostError
from emberbox.settings import load

if TYPE_CHECKING:
    from emberbox_sdk import Client, LogLine


def logs(
    name: Annotated[str, typer.Argument(help="An image's name or ARN, or a log group (it begins with /).")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be repeated.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --follow on a terminal: all that build steps say, too.")
    ] = False,
) -> None:
    """Show the logs of an image's builds and microVMs."""
    from emberbox_sdk import Logs

    try:
        with get_server(load().home).open() as client:
            reader = Logs(client, group_of(name), stream or ())
            if not follow and not reader.exists():
                raise HostError(f"there is no log group {reader.group}{_suggest(client)}")
            if follow and sys.stdout.isatty() and not verbose:
                show_folded(reader.follow())
            else:
                for line in reader.follow() if follow else reader.poll():
                    print(render(line), flush=True)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader has seen enough, as in `emberbox logs x | head`
        sys.stderr.close()


def show_folded(lines: Iterable[LogLine]) -> None:
    """Show lines as they come: of builds only the steps, what is under way, and all of what fails."""
    from emberbox_sdk.build_log import BUILD_STREAM

    views: dict[str, BuildView] = {}
    shown: list[str] = []
    with live_line() as tell:
        for line in lines:
            if BUILD_STREAM in line.stream:
                views.setdefault(line.stream, BuildView(shown.append, tell)).take(line.message)
            else:
                shown.append(line.message)
            for text in shown:
                print(f"{render_time(line.moment)} {text}", flush=True)
            shown.clear()


def group_of(name: str) -> str:
    """Return the log group that a user means."""
    from emberbox_sdk.wire import log_group

    return name if name.startswith("/") else log_group(name)


def render(line: LogLine) -> str:
    """Return a line with its local time."""
    return f"{render_time(line.moment)} {line.message}"


def render_time(moment: datetime) -> str:
    """Return a moment as local time, with milliseconds."""
    local = moment.astimezone()
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"


def _suggest(client: Client) -> str:
    groups = client.log_groups()
    return f"; there are: {', '.join(groups)}" if groups else "; none has been written yet"
