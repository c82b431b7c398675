"""What every command needs to reach the server: where it is, the credentials, and clients made from both.

A server that is ready has written `runtime/endpoints.json` and `credentials` in its home.
"""

from __future__ import annotations

import configparser
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emberbox.model.errors import HostError
from emberbox.spec.place import DATA_PATH
from emberbox.time_limits import limit_s

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from emberbox_sdk import Client, Config, EmberboxError

PROFILE = "emberbox"
_CONNECT_TIMEOUT_S = limit_s(2.0)
CHECKOUT = Path(__file__).resolve().parents[3]
"""Where the sources are, if this is run from them."""


class NoServerError(HostError):
    """No server runs with this home."""

    def __init__(self, home: Path) -> None:
        super().__init__(f"no Emberbox server is running here ({home}); start one with `emberbox up`")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, as its files describe it."""

    home: Path
    pid: int
    region: str
    account_id: str
    api_url: str
    s3_url: str
    gateway: str
    ca_bundle: Path
    accelerator: str
    network: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    https_port: int = 0
    console_url: str = ""
    console_listener: str = ""

    @property
    def gateway_address(self) -> tuple[str, int]:
        """Host and port of the gateway."""
        host, _, port = self.gateway.rpartition(":")
        return host.strip("[]"), int(port)

    def config(self) -> Config:
        """Return how the SDK reaches it."""
        from emberbox_sdk.config import Config

        return Config(
            api_url=self.api_url,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            region=self.region,
            s3_url=self.s3_url,
            gateway=self.gateway,
            ca_bundle=self.ca_bundle,
            account_id=self.account_id,
            timeout_s=limit_s(60.0),
            wake_timeout_s=limit_s(150.0),
        )

    def open(self) -> Client:
        """Return the SDK's client of this server, to be closed."""
        from emberbox_sdk import Client

        return Client(self.config())

    def client(self, service: str) -> Any:
        """Return a boto3 client of this server, for what the SDK has not: keys, policies, stacks, large objects."""
        import boto3
        import botocore.session
        from botocore.config import Config

        session = botocore.session.get_session()
        session.get_component("data_loader").search_paths.append(str(DATA_PATH))
        return boto3.Session(botocore_session=session).client(
            service,
            region_name=self.region,
            endpoint_url=self.s3_url if service == "s3" else self.api_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(proxies={}, retries={"mode": "standard"}),  # it is on this machine: no proxy between
        )


def command_name() -> str:
    """Return what a user types for the command line: in a checkout that is `./run emberbox`."""
    return "./run emberbox" if (CHECKOUT / "run").is_file() else "emberbox"


def log_path(home: Path) -> Path:
    """Return where a server that was started in the background writes what it says."""
    return home / "runtime" / "server.log"


def find_server(home: Path) -> Server | None:
    """Return the server that runs with this home; None when there is none.

    Raises:
        HostError: its files are there but cannot be read.
    """
    server = read_server(home)
    if server is None or not _is_alive(server.pid) or not _answers(server.api_url):
        return None
    return server


def get_server(home: Path) -> Server:
    """Return the server that runs with this home.

    Raises:
        NoServerError: there is none.
        HostError: its files are there but cannot be read.
    """
    server = find_server(home)
    if server is None:
        raise NoServerError(home)
    return server


def read_endpoints(home: Path) -> dict[str, str]:
    """Return where the server of a home is reached; nothing where none runs."""
    try:
        content = json.loads((home / "runtime" / "endpoints.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: str(value) for name, value in content.items()} if isinstance(content, dict) else {}


def read_server(home: Path) -> Server | None:
    """Return what the files in the home say, without looking whether the server still runs; None when they say nothing.

    Raises:
        HostError: they are there but cannot be read.
    """
    path = home / "runtime" / "endpoints.json"
    try:
        content = json.loads(path.read_text())
        if content["home"] != str(home):  # this home is a copy of another, whose server may run
            return None
        access_key_id, secret_access_key = _read_credentials(home / "credentials")
        return Server(
            home=home,
            pid=int(content["pid"]),
            region=content["region"],
            account_id=content["account_id"],
            api_url=content["api_url"],
            s3_url=content["s3_url"],
            gateway=content["gateway"],
            ca_bundle=Path(content["ca_bundle"]),
            accelerator=content["accelerator"],
            network=content["network"],
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            https_port=int(content.get("https_port", 0)),
            console_url=content.get("console_url", ""),
            console_listener=content.get("console_listener", ""),
        )
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise HostError(f"{error.filename} is not yours to read; the server belongs to another user") from None
    except (KeyError, TypeError, ValueError, configparser.Error) as error:
        raise HostError(f"{path} cannot be understood: {error!r}; restart the server") from error


def _read_credentials(path: Path) -> tuple[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text())
    profile = parser[PROFILE]
    return profile["aws_access_key_id"], profile["aws_secret_access_key"]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(url: str) -> bool:
    """A number that another process took over does not make a server: the API must accept connections too."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what a user may meet into one `HostError` with one line of text.

    Raises:
        HostError: instead of botocore's errors and the SDK's.
    """
    try:
        yield
    except Exception as error:
        text = _describe(error)
        if text is None:
            raise
        raise HostError(text) from error


def _describe(error: Exception) -> str | None:
    """Return a line for an error of a client's; None for any other. A client that was not loaded has raised nothing."""
    if "botocore.exceptions" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        if isinstance(error, ClientError):
            return describe_refusal(error)
        if isinstance(error, BotoCoreError):
            return f"{error}; `emberbox status` says whether the server runs"
    if "emberbox_sdk.errors" in sys.modules:
        from emberbox_sdk.errors import EmberboxError

        if isinstance(error, EmberboxError):
            return describe_failure(error)
    return None


def describe_failure(error: EmberboxError) -> str:
    """Say in a line what went wrong and what to type next: some of the SDK's hints name what to call instead."""
    if "()" not in error.hint:
        return str(error)
    from emberbox_sdk.errors import ConflictError, QuotaError, SandboxEndedError

    hints = {
        ConflictError: "`emberbox ps` shows its state",
        QuotaError: "end some, or raise the limit: emberbox quotas",
        SandboxEndedError: "`emberbox events` shows what happened",
    }
    hint = next((text for kind, text in hints.items() if isinstance(error, kind)), "")
    said = str(error).removesuffix(f"; {error.hint}")
    return f"{said}; {hint}" if hint else said


def describe_refusal(error: ClientError) -> str:
    """Say in a line what the API refused and why."""
    detail = error.response.get("Error", {})
    return f"{error.operation_name}: {detail.get('Message') or 'no reason given'} ({detail.get('Code')})"
