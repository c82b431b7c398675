"""`emberbox accounts`: accounts, whose resources are invisible to each other."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.access import given, own_client, show_key, show_moment, show_table

accounts = typer.Typer(help="Accounts, whose resources are invisible to each other.", no_args_is_help=True)


@accounts.command("list")
def list_accounts() -> None:
    """List the accounts."""
    items = own_client().list_accounts()["items"]
    rows = [(item["accountId"], item["accountName"], show_moment(item["createdAt"])) for item in items]
    show_table(("Account", "Name", "Created"), rows)


@accounts.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for people.")],
    account_id: Annotated[str | None, typer.Option("--id", help="12 digits; random ones without it.")] = None,
) -> None:
    """Make an account and print the key of its user admin, who may do everything in it."""
    made = own_client().create_account(**given(accountName=name, accountId=account_id))
    show_key(made["accessKey"])
