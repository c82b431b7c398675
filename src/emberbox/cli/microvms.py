"""`emberbox ps`, `events` and `top`: what microVMs there are, what happened to them, and what they cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emberbox.cli.context import Server, get_server
from emberbox.settings import load

_POLL_S = 0.5
_PAGE = 1000
Rows = list[dict[str, Any]]


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show those that have ended, too.")] = False,
) -> None:
    """List microVMs with their state, age, memory and image."""
    server = get_server(load().home)
    listed = list_microvms(server, ended=everything)
    used = {row["microvmId"]: row for row in server.client("emberbox").describe_host()["microvms"]}
    table = _table("microVM", "state", ">age", ">memory", ">disk", "image")
    now = datetime.now(UTC)
    for item in listed:
        usage = used.get(item["microvmId"], {})
        age = format_age((now - item["startedAt"]).total_seconds())
        sizes = [format_bytes(usage.get(name)) for name in ("memoryInBytes", "diskInBytes")]
        table.add_row(item["microvmId"], item["state"], age, *sizes, _image(item))
    _console().print(table, soft_wrap=True)


def events(
    microvm: Annotated[str | None, typer.Argument(help="Only of this microVM.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_PAGE, help="How many to begin with.")] = 50,
) -> None:
    """Show every change of state: when, how long it took, who set it off and why."""
    client = get_server(load().home).client("emberbox")
    try:
        for event in read_events(client, microvm, limit, follow=follow):
            print(render_event(event), flush=True)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:  # the reader has seen enough, as in `emberbox events | head`
        sys.stderr.close()


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.2, help="Seconds between pictures.")] = 2.0,
) -> None:
    """Show live what the machine has and what each microVM uses of it."""
    server = get_server(load().home)
    console = _console()
    if once:
        console.print(_picture(server, {}, 0.0))
        return
    before: dict[str, float] = {}
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(_picture(server, before, interval), refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        return


def list_microvms(server: Server, *, ended: bool) -> Rows:
    """Return the microVMs, newest first.

    Args:
        server: the server.
        ended: also those that are TERMINATED.
    """
    pages = server.client("lambda-microvms").get_paginator("list_microvms").paginate()
    return [item for page in pages for item in page["items"] if ended or item["state"] != "TERMINATED"]


def read_events(client: Any, microvm: str | None, limit: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    """Yield the newest events, oldest first, and then, when asked, each new one."""
    where = {} if microvm is None else {"microvmIdentifier": microvm}
    found: Rows = client.list_events(**where, maxResults=limit)["items"]
    last = 0
    while True:
        for event in found:
            last = event["eventId"]
            yield event
        if not follow:
            return
        if len(found) < _PAGE:
            time.sleep(_POLL_S)
        found = client.list_events(**where, afterEventId=last, maxResults=_PAGE)["items"]


def render_event(event: dict[str, Any]) -> str:
    """Return an event as a line."""
    moment = event["time"].astimezone()
    change = f"{event.get('fromState') or '(new)'} → {event['state']}"
    took = f"{event['durationInMilliseconds']} ms"
    head = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03} {event['microvmId']}"
    return f"{head} {change:<26} {took:>9}  {event['actor']:<11} {event['reason']}"


def format_age(seconds: float) -> str:
    """Return a duration in its largest fitting unit: 42s, 7m, 3h, 2d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"


def format_bytes(count: int | None) -> str:
    """Return a number of bytes in MiB or GiB, `-` for none."""
    if not count:
        return "-"
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.1f} MiB"


def _picture(server: Server, before: dict[str, float], interval: float) -> Group:
    """Return one picture of `top`; `before` keeps each microVM's processor time for the next one."""
    host = server.client("emberbox").describe_host()
    states = {item["microvmId"]: item for item in list_microvms(server, ended=False)}
    title = (
        f"{host['cpuCount']} CPUs, load {host['loadAverage']:.2f}; "
        f"memory {format_bytes(host['memoryAvailableInBytes'])} available of "
        f"{format_bytes(host['memoryTotalInBytes'])}; disk {format_bytes(host['diskFreeInBytes'])} free"
    )
    table = _table("microVM", "state", ">cpu", ">memory", ">changed", ">disk", "image")
    for row in sorted(host["microvms"], key=lambda row: -row["memoryInBytes"]):
        item = states.get(row["microvmId"])
        if item is None:
            continue
        earlier = before.get(row["microvmId"])
        cpu = "-" if earlier is None or not interval else f"{max(row['cpuSeconds'] - earlier, 0) / interval:.1%}"
        before[row["microvmId"]] = row["cpuSeconds"]
        sizes = [format_bytes(row[name]) for name in ("memoryInBytes", "changedMemoryInBytes", "diskInBytes")]
        table.add_row(row["microvmId"], item["state"], cpu, *sizes, _image(item))
    for row in host["pooledMicrovms"]:
        sizes = [format_bytes(row[name]) for name in ("memoryInBytes", "changedMemoryInBytes", "diskInBytes")]
        table.add_row("(warm pool)", "prepared", "-", *sizes, _image(row))
    return Group(Text(title), table)


def _image(item: dict[str, Any]) -> str:
    return f"{item['imageArn'].rpartition(':')[2]} {item['imageVersion']}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table


def _console() -> Console:
    """Return a console that does not fold lines where nobody looks at it."""
    return Console() if sys.stdout.isatty() else Console(width=200)
