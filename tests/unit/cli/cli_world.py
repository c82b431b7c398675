"""What the command line's tests stand on: a home as a server leaves it, and a server that plays Logs."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from emberbox.edges.gateway.tls.certificates import ensure_certificates

SECRET = "s3cr3t+/value=with'quote"


@cache
def make_authority() -> str:
    """Return a certificate authority, as a server's gateway has one."""
    with tempfile.TemporaryDirectory() as directory:
        return ensure_certificates(Path(directory), ["127.0.0.1"]).authority_path.read_text()


def write_home(home: Path, pid: int, port: int, **changes: Any) -> None:
    content = {
        "pid": pid,
        "home": str(home),
        "region": "eu-west-1",
        "account_id": "123456789012",
        "api_url": f"http://127.0.0.1:{port}",
        "s3_url": "http://127.0.0.1:9071",
        "gateway": "127.0.0.1:9443",
        "ca_bundle": str(home / "ca bundle.pem"),
        "accelerator": "tcg",
        "network": "user",
        **changes,
    }
    (home / "runtime").mkdir(parents=True, exist_ok=True)
    (home / "ca bundle.pem").write_text(make_authority())
    (home / "runtime" / "endpoints.json").write_text(json.dumps(content))
    (home / "credentials").write_text(
        f"[emberbox]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = {SECRET}\n"
    )


class LogsApi(ThreadingHTTPServer):
    """Answers DescribeLogGroups and FilterLogEvents from `groups`, two events to a page."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.groups: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.refusal = ""

    def add(self, group: str, event_id: str, timestamp: int, message: str, stream: str = "s") -> None:
        self.groups.setdefault(group, []).append(
            {"eventId": event_id, "timestamp": timestamp, "message": message, "logStreamName": stream}
        )

    def answer(self, operation: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.refusal:
            return 400, {"__type": "AccessDeniedException", "message": self.refusal}
        if operation == "DescribeLogGroups":
            prefix = request.get("logGroupNamePrefix", "")
            return 200, {"logGroups": [{"logGroupName": n} for n in self.groups if n.startswith(prefix)]}
        if operation != "FilterLogEvents":
            return 400, {"__type": "ValidationException", "message": f"{operation} is not played"}
        self.requests.append(request)
        events = self.groups.get(request["logGroupName"])
        if events is None:
            return 400, {"__type": "ResourceNotFoundException", "message": "no such group"}
        wanted = [
            event
            for event in events
            if event["timestamp"] >= request.get("startTime", 0)
            and event["logStreamName"] in request.get("logStreamNames", [event["logStreamName"]])
        ]
        first = int(request.get("nextToken", 0))
        page: dict[str, Any] = {"events": wanted[first : first + 2]}
        if first + 2 < len(wanted):
            page["nextToken"] = str(first + 2)
        return 200, page


class _Handler(BaseHTTPRequestHandler):
    server: LogsApi

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.answer(self.headers["X-Amz-Target"].split(".")[1], request)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def start_http(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
