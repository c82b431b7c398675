"""The shell and the data plane of a microVM, as clients see them."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.sync.client import ClientConnection, connect

from emberbox.time_limits import limit_s
from support.guests import TOKEN_HEADER, Microvm

TIMEOUT_S = limit_s(60.0)


def ingress(microvm_or_region: str, *names: str) -> list[str]:
    """Return the ARNs of managed ingress connectors in a region."""
    prefix = f"arn:aws:lambda:{microvm_or_region}:aws:network-connector:aws-network-connector"
    return [f"{prefix}:{name}" for name in names]


def mint_shell_token(microvm: Microvm) -> str:
    """Call CreateMicrovmShellAuthToken."""
    answer = microvm.api.create_microvm_shell_auth_token(microvmIdentifier=microvm.id, expirationInMinutes=10)
    return str(answer["authToken"][TOKEN_HEADER])


@contextmanager
def open_websocket(
    microvm: Microvm, path: str = "/shell", *, token: str = "", subprotocols: list[str] | None = None
) -> Iterator[ClientConnection]:
    """Open a WebSocket at a microVM's endpoint; the token is in a header unless subprotocols carry it."""
    server = microvm.gateway.server
    context = ssl.create_default_context(cafile=server.endpoints["ca_bundle"])
    host, _, port = server.endpoints["gateway"].rpartition(":")
    name = urlsplit(f"//{microvm.endpoint}").hostname
    headers = {TOKEN_HEADER: token} if token else {}
    with connect(
        f"wss://{microvm.endpoint}{path}",
        sock=socket.create_connection((host, int(port)), TIMEOUT_S),
        ssl=context,
        server_hostname=name,
        additional_headers=headers,
        subprotocols=subprotocols,  # type: ignore[arg-type]
        proxy=None,
        ping_interval=None,
        open_timeout=TIMEOUT_S,
        max_size=1 << 24,
    ) as websocket:
        yield websocket


class Shell:
    """A shell session that a test types into."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.first: dict[str, Any] = json.loads(websocket.recv(TIMEOUT_S))
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        """Say how large the terminal is."""
        self.websocket.send(json.dumps({"type": "resize", "cols": columns, "rows": rows}))

    def type(self, text: str) -> None:
        """Type, in a binary frame."""
        self.websocket.send(text.encode())

    def read_until(self, text: str) -> str:
        """Return what the terminal shows up to and with `text`; what comes behind it is kept for the next call."""
        while text not in self.seen:
            data = self.websocket.recv(TIMEOUT_S)
            assert isinstance(data, bytes), data
            self.seen += data.decode(errors="replace")
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def read_closing(self) -> tuple[int, str]:
        """Read to the end; return the close code and its reason."""
        for data in self.websocket:
            self.seen += data.decode(errors="replace") if isinstance(data, bytes) else ""
        return self.websocket.protocol.close_code or 0, self.websocket.protocol.close_reason or ""


@contextmanager
def open_shell(microvm: Microvm) -> Iterator[Shell]:
    """Open the shell of a microVM."""
    with open_websocket(microvm, token=mint_shell_token(microvm)) as websocket:
        yield Shell(websocket)


def request(microvm: Microvm, method: str, path: str, **more: Any) -> httpx.Response:
    """Send a plain request with a shell token."""
    headers = {"Host": microvm.endpoint, TOKEN_HEADER: mint_shell_token(microvm), **more.pop("headers", {})}
    name = urlsplit(f"//{microvm.endpoint}").hostname or ""
    url = f"https://{microvm.gateway.server.endpoints['gateway']}{path}"
    return microvm.gateway.http.request(method, url, headers=headers, extensions={"sni_hostname": name}, **more)


def run(microvm: Microvm, script: str) -> str:
    """Run a script of sh in the microVM; return its output. It must succeed."""
    answer = request(microvm, "POST", "/exec", json={"command": ["sh", "-c", script]})
    assert answer.status_code == 200, answer.text
    *lines, last = [json.loads(line) for line in answer.text.splitlines()]
    output = {"stdout": b"", "stderr": b""}
    for line in lines:
        output[line["type"]] += base64.b64decode(line["data"])
    assert last == {"type": "exit", "exitCode": 0}, (last, output["stderr"])
    return output["stdout"].decode()
