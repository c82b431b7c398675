"""`emberbox keys`: the access keys of users."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, UserOption, given, own_client, show_key, show_moment, show_table
from emberbox.cli.context import get_server
from emberbox.keys import FILE_NAME, write_credential
from emberbox.settings import load

KeyArgument = Annotated[str, typer.Argument(help="The access key's id.", metavar="KEY")]

keys = typer.Typer(help="Access keys: made, disabled, rotated.", no_args_is_help=True)


@keys.command("list")
def list_keys(
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only this user's.", metavar="NAME")] = None,
    account: AccountOption = None,
) -> None:
    """List access keys, without their secrets."""
    items = own_client().list_access_keys(**given(userName=user, accountId=account))["items"]
    rows = [
        (item["accessKeyId"], item["accountId"], item["userName"], item["status"], show_moment(item["createdAt"]))
        for item in items
    ]
    show_table(("Key", "Account", "User", "Status", "Created"), rows)


@keys.command()
def create(user: UserOption, account: AccountOption = None) -> None:
    """Make a key and print it; a new user may do nothing until `emberbox policies put` says so."""
    show_key(own_client().create_access_key(**given(userName=user, accountId=account))["accessKey"])


@keys.command()
def disable(key: KeyArgument) -> None:
    """Let a key, and the temporary credentials made with it, sign nothing any more."""
    own_client().update_access_key(accessKeyId=key, status="Inactive")


@keys.command()
def enable(key: KeyArgument) -> None:
    """Let a key sign requests again."""
    own_client().update_access_key(accessKeyId=key, status="Active")


@keys.command()
def delete(key: KeyArgument) -> None:
    """Remove a key for ever."""
    own_client().delete_access_key(accessKeyId=key)


@keys.command()
def rotate() -> None:
    """Put a new key into the server's credentials file; the old one stays good until it is disabled."""
    server = get_server(load().home)
    made = server.client("emberbox").create_access_key(userName="admin")["accessKey"]
    write_credential(server.home / FILE_NAME, made["accessKeyId"], made["secretAccessKey"])
    print(f"{server.home / FILE_NAME} holds {made['accessKeyId']} now.")
    print(f"When nobody uses the old key any more: emberbox keys delete {server.access_key_id}")
