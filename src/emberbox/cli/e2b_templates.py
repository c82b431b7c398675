"""`emberbox e2b-templates`: the templates that E2B has for everybody, built here."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Annotated, Any, Final

import typer

from emberbox.cli.context import get_server
from emberbox.cli.e2b_keys import find_url
from emberbox.edges.sandboxes import api_keys
from emberbox.model.errors import HostError
from emberbox.settings import load

REQUEST_S: Final = 60.0
POLL_S: Final = 0.5
UNFINISHED: Final = ("waiting", "building")

e2b_templates = typer.Typer(help="Templates of E2B's SDKs that their users expect to be there.", no_args_is_help=True)


@e2b_templates.callback()
def _group() -> None:
    """Keep the command's own name, though it is the only one."""


@e2b_templates.command()
def build(
    name: Annotated[str, typer.Argument(help="`base` or `code-interpreter-v1`.")] = "code-interpreter-v1",
    memory: Annotated[int, typer.Option(help="MiB of memory that sandboxes have at least.")] = 1024,
) -> None:
    """Build a standard template of Debian's packages, and show its log; sandboxes without a template's name have it."""
    home = load().home
    server = get_server(home)
    api = _Api(find_url(home), api_keys.write_api_key(api_keys.E2B, server.access_key_id, server.secret_access_key))
    asked = api.call("POST", "/v3/templates", {"name": name, "memoryMB": memory})
    template, made = asked["templateID"], asked["buildID"]
    api.call("POST", f"/v2/templates/{template}/builds/{made}", {"fromTemplate": name, "steps": []})
    seen = 0
    while True:
        status = api.call("GET", f"/templates/{template}/builds/{made}/status?logsOffset={seen}")
        for line in status["logEntries"]:
            print(line["message"])
        seen += len(status["logEntries"])
        if status["status"] not in UNFINISHED and not status["logEntries"]:
            break
        time.sleep(POLL_S)
    if status["status"] != "ready":
        raise HostError(f"the template {name} was not built: {status['reason']['message']}")
    print(f"built: Sandbox.create({name!r})")


class _Api:
    """E2B's API, as far as it is needed.

    Args:
        url: of it.
        key: who asks.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # Any: JSON
        """Return the answer.

        Raises:
            HostError: it is an error, or there is none.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-API-Key": self._key, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:  # noqa: S310 - the same
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise HostError(f"E2B's API answered {error.code}: {_message(error.read())}") from error
        except OSError as error:
            raise HostError(f"E2B's API does not answer: {error}; `emberbox status` says what runs") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
