"""`emberbox e2b-keys`: access keys in the form that E2B's SDKs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from emberbox.cli.access import AccountOption, given, own_client
from emberbox.cli.context import read_endpoints
from emberbox.edges.sandboxes import api_keys
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
    tls: Annotated[
        bool, typer.Option("--tls", help="Lead there by E2B_DOMAIN, over TLS; `emberbox env` lets clients trust it.")
    ] = False,
) -> None:
    """Make a key, and print the environment that leads E2B's SDKs here: eval "$(emberbox e2b-keys create)"."""
    places = _find_domain(load().home) if tls else _find_urls(load().home)
    made = own_client().create_access_key(**given(userName=user, accountId=account))["accessKey"]
    for name, value in places.items():
        print(f"export {name}={value}" if value else f"unset {name}")
    print(f"export E2B_API_KEY={api_keys.write_api_key(api_keys.E2B, made['accessKeyId'], made['secretAccessKey'])}")


def find_url(home: Path) -> str:
    """Return where E2B's API is served.

    Raises:
        HostError: it is not.
    """
    url = read_endpoints(home).get("e2b_url")
    if not url:
        raise HostError("E2B's API is not served: start the server with EMBERBOX_E2B=on (docs/e2b.md)")
    return url


def _find_urls(home: Path) -> dict[str, str]:
    url = find_url(home)
    return {"E2B_API_URL": url, "E2B_SANDBOX_URL": url}


def _find_domain(home: Path) -> dict[str, str]:
    """Return variables that lead SDKs to the gateway; an empty one would lead them elsewhere."""
    find_url(home)
    domain = read_endpoints(home).get("e2b_domain")
    if not domain:
        raise HostError("E2B's API is not served over TLS: EMBERBOX_E2B_DOMAIN must be a domain name (docs/e2b.md)")
    return {"E2B_DOMAIN": domain, "E2B_API_URL": "", "E2B_SANDBOX_URL": ""}
