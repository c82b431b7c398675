"""What the commands about accounts, keys, policies, roles and quotas share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from emberbox.cli.context import get_server
from emberbox.settings import load

_PIPE_WIDTH = 1000

AccountOption = Annotated[
    str | None, typer.Option("--account", help="Another account than the operator's; 12 digits.", metavar="ID")
]
UserOption = Annotated[str, typer.Option("--user", "-u", help="The user.", metavar="NAME")]


def own_client() -> Any:
    """Return a boto3 client of Emberbox's own service."""
    return get_server(load().home).client("emberbox")


def given(**parameters: Any) -> dict[str, Any]:
    """Return the parameters that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}


def show_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under headings; into a pipe, every row stays one line."""
    table = Table(*headings, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table, highlight=False, markup=False)


def show_moment(moment: datetime) -> str:
    """Return a moment in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def show_key(key: Mapping[str, Any]) -> None:
    """Print a new key as a section of an AWS credentials file; its secret is shown this once."""
    print(f"[{key['accountId']}-{key['userName']}]")
    print(f"aws_access_key_id = {key['accessKeyId']}")
    print(f"aws_secret_access_key = {key['secretAccessKey']}")
