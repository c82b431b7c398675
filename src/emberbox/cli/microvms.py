"""`emberbox ps`, `events` and `top`: what microVMs there are, what happened to them, and what they cost."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emberbox.cli.context import get_server
from emberbox.cli.logs import render_time
from emberbox.settings import load

if TYPE_CHECKING:
    from emberbox_sdk import Client, SandboxEvent, SandboxInfo, Usage

_EVENTS_MAX = 1000


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show those that have ended, too.")] = False,
) -> None:
    """List microVMs with their state, age, memory and image."""
    with get_server(load().home).open() as client:
        listed = list_microvms(client, ended=everything)
        used = {usage.sandbox_id: usage for usage in client.host().sandboxes}
    table = _table("microVM", "state", ">age", ">memory", ">disk", "image")
    now = datetime.now(UTC)
    for info in listed:
        usage = used.get(info.id)
        age = format_age((now - info.started_at).total_seconds())
        sizes = [format_bytes(size) for size in ((usage.memory_bytes, usage.disk_bytes) if usage else (None, None))]
        table.add_row(info.id, info.state, age, *sizes, _image(info))
    _console().print(table, soft_wrap=True)


def events(
    microvm: Annotated[str | None, typer.Argument(help="Only of this microVM.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=_EVENTS_MAX, help="How many to begin with.")] = 50,
) -> None:
    """Show every change of state: when, how long it took, who set it off and why."""
    try:
        with get_server(load().home).open() as client:
            for event in client.events(microvm or "", limit=limit, follow=follow):
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
    with get_server(load().home).open() as client:
        console = _console()
        if once:
            console.print(_picture(client, {}, 0.0))
            return
        before: dict[str, float] = {}
        try:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(_picture(client, before, interval), refresh=True)
                    time.sleep(interval)
        except KeyboardInterrupt:
            return


def list_microvms(client: Client, *, ended: bool) -> list[SandboxInfo]:
    """Return the microVMs, newest first.

    Args:
        client: of the server.
        ended: also those that are TERMINATED.
    """
    from emberbox_sdk import Sandbox

    return [info for info in Sandbox.list(ended=True, client=client) if ended or info.state != "TERMINATED"]


def render_event(event: SandboxEvent) -> str:
    """Return an event as a line."""
    change = f"{event.before or '(new)'} → {event.state}"
    took = f"{event.duration_ms} ms"
    head = f"{render_time(event.moment)} {event.sandbox_id}"
    return f"{head} {change:<26} {took:>9}  {event.actor:<11} {event.reason}"


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


def _picture(client: Client, before: dict[str, float], interval: float) -> Group:
    """Return one picture of `top`; `before` keeps each microVM's processor time for the next one."""
    host = client.host()
    known = {info.id: info for info in list_microvms(client, ended=False)}
    title = (
        f"{host.cpus} CPUs, load {host.load:.2f}; "
        f"memory {format_bytes(host.memory_available_bytes)} available of "
        f"{format_bytes(host.memory_total_bytes)}; disk {format_bytes(host.disk_free_bytes)} free"
    )
    table = _table("microVM", "state", ">cpu", ">memory", ">changed", ">disk", "image")
    for usage in sorted(host.sandboxes, key=lambda usage: -usage.memory_bytes):
        info = known.get(usage.sandbox_id)
        if info is None:
            continue
        earlier = before.get(info.id)
        cpu = "-" if earlier is None or not interval else f"{max(usage.cpu_s - earlier, 0) / interval:.1%}"
        before[info.id] = usage.cpu_s
        table.add_row(info.id, info.state, cpu, *_sizes(usage), _image(info))
    for usage in host.prepared:
        table.add_row("(warm pool)", "prepared", "-", *_sizes(usage), _image(usage))
    return Group(Text(title), table)


def _sizes(usage: Usage) -> list[str]:
    return [format_bytes(size) for size in (usage.memory_bytes, usage.changed_memory_bytes, usage.disk_bytes)]


def _image(item: SandboxInfo | Usage) -> str:
    return f"{item.image} {item.version}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", no_wrap=True)
    return table


def _console() -> Console:
    """Return a console that does not fold lines where nobody looks at it."""
    return Console() if sys.stdout.isatty() else Console(width=200)
