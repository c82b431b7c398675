"""`emberbox doctor`: shows what this machine has and lacks, and what to do about it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emberbox.cli.clients import Mend, mend_clients
from emberbox.cli.progress import waiting
from emberbox.settings import load

if TYPE_CHECKING:
    from emberbox.doctor import Check


def doctor(mend: Mend = False) -> None:
    """Check this machine; exit code 1 when something that is required is missing."""
    from emberbox.doctor import examine

    settings, console = load(), Console()
    if mend:
        asyncio.run(mend_clients(settings, console.print))
    with waiting("trying what this machine can do"):
        checks = asyncio.run(examine(settings))
    console.print(render(checks), highlight=False)
    missing = [check.name for check in checks if check.required and not check.ok]
    if missing:
        console.print(f"\nmissing: {', '.join(missing)}", style="bold red", highlight=False)
        raise typer.Exit(1)
    console.print("\nthis machine can run Emberbox", style="bold green", highlight=False)


def render(checks: list[Check]) -> Table:
    """Return the table of checks; where something is to be done, the remedy is below the finding."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark = "[green]ok[/]" if check.ok else "[red]missing[/]" if check.required else "[yellow]note[/]"
        table.add_row(mark, check.name, escape(check.detail))
        if check.remedy and not check.ok:
            table.add_row("", "", f"[bold]→ {escape(check.remedy)}[/]")
    return table
