"""`emberbox e2b-keys`: access keys in the form that E2B's SDKs take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, given, own_client
from emberbox.edges.e2b.api_keys import write_api_key
from emberbox.model.errors import HostError
from emberbox.settings import load

e2b_keys = typer.Typer(
    help="E2B's API keys: made here, listed and disabled with `emberbox keys`.", no_args_is_help=True
)


@e2b_keys.callback()
def _group() -> None:
    """Keep the command's own name, though it is the only one."""


@e2b_keys.command()
def create(
    user: Annotated[str, typer.Option("--user", "-u", help="Whose rights it has.", metavar="NAME")] = "admin",
    account: AccountOption = None,
) -> None:
    """Make a key, and print the environment that leads E2B's SDKs here: eval "$(emberbox e2b-keys create)"."""
    url = find_url(load().home)
    made = own_client().create_access_key(**given(userName=user, accountId=account))["accessKey"]
    print(f"export E2B_API_URL={url}")
    print(f"export E2B_SANDBOX_URL={url}")
    print(f"export E2B_API_KEY={write_api_key(made['accessKeyId'], made['secretAccessKey'])}")


def find_url(home: Path) -> str:
    """Return where E2B's API is served.

    Raises:
        HostError: it is not.
    """
    try:
        url = json.loads((home / "runtime" / "endpoints.json").read_text()).get("e2b_url")
    except (OSError, ValueError):
        url = None
    if not url:
        raise HostError("E2B's API is not served: start the server with EMBERBOX_E2B=on (docs/e2b.md)")
    return str(url)
