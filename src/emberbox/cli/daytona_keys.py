"""`emberbox daytona-keys`: access keys in the form that Daytona's SDKs take."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, given, own_client
from emberbox.cli.context import read_endpoints
from emberbox.edges.sandboxes import api_keys
from emberbox.model.errors import HostError
from emberbox.settings import load

daytona_keys = typer.Typer(
    help="Daytona's API keys: made here, listed and disabled with `emberbox keys`.", no_args_is_help=True
)


@daytona_keys.callback()
def _group() -> None:
    """Keep the command's own name, though it is the only one."""


@daytona_keys.command()
def create(
    user: Annotated[str, typer.Option("--user", "-u", help="Whose rights it has.", metavar="NAME")] = "admin",
    account: AccountOption = None,
) -> None:
    """Make a key, and print the environment that leads Daytona's SDKs here: eval "$(emberbox daytona-keys create)"."""
    url = read_endpoints(load().home).get("daytona_url")
    if not url:
        raise HostError("Daytona's API is not served: start the server with EMBERBOX_DAYTONA=on (docs/daytona.md)")
    made = own_client().create_access_key(**given(userName=user, accountId=account))["accessKey"]
    key = api_keys.write_api_key(api_keys.DAYTONA, made["accessKeyId"], made["secretAccessKey"])
    print(f"export DAYTONA_API_URL={url}")
    print(f"export DAYTONA_API_KEY={key}")
