"""`emberbox settings`: the table of settings, with the values in force."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields

from rich.console import Console
from rich.table import Table

from emberbox.settings import FILE_NAME, PREFIX, Settings, default_home, load


def settings() -> None:
    """Show every setting: its variable, its value, its default and what it does."""
    values = load()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("Variable", "Value", "Default", "Meaning"):
        table.add_column(heading, overflow="fold")
    for row in fields(Settings):
        default = default_home() if row.default is MISSING else row.default
        table.add_row(
            f"{PREFIX}{row.name.upper()}",
            hide_password(str(getattr(values, row.name))),
            str(default),
            row.metadata["help"],
        )
    console = Console()
    console.print(table, highlight=False)
    console.print(f"\nalso read: {values.home / FILE_NAME} (the names in lower case)", highlight=False)


def hide_password(value: str) -> str:
    """Replace the password in a URL."""
    return re.sub(r"(://[^:/@]*):[^/@]*@", r"\1:***@", value)
