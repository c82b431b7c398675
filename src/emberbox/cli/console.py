"""`emberbox console`: a link that logs a browser in to the console, once."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import webbrowser
from typing import Annotated

import typer

from emberbox.cli.context import Server, get_server
from emberbox.model.errors import HostError
from emberbox.settings import load
from emberbox.time_limits import limit_s

_TIMEOUT_S = limit_s(10.0)


def console(
    open_it: Annotated[bool, typer.Option("--open", help="Open it in this machine's browser.")] = False,
) -> None:
    """Print a link to the console that logs you in as the server's first key; it works once, for two minutes."""
    server = get_server(load().home)
    link = make_link(server)
    print(link)
    if open_it and not webbrowser.open(link):
        raise HostError("no browser could be started here; open the link above in one")


def make_link(server: Server) -> str:
    """Return a link that logs in once.

    Raises:
        HostError: the console is not served, or gives none.
    """
    if not server.console_url:
        raise HostError("this server has no console; set EMBERBOX_CONSOLE=on and restart it")
    content = {"accessKeyId": server.access_key_id, "secretAccessKey": server.secret_access_key}
    request = urllib.request.Request(  # noqa: S310 - the server's own address
        f"{server.console_listener}/api/links", json.dumps(content).encode(), {"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine: no proxy between
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            code = json.load(answer)["code"]
    except urllib.error.HTTPError as error:
        raise HostError(f"the console gives no link: {_message(error)}") from error
    except OSError as error:
        raise HostError(f"the console does not answer at {server.console_listener}: {error}") from error
    return f"{server.console_url}/#/enter/{code}"


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {error.code}"
