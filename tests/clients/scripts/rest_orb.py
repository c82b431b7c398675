"""Machines by orb's REST server, which is started for it; prints what it saw as JSON."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.5)
    raise TimeoutError(what)


def live(api, template):
    def call(method, path, **body):
        answer = requests.request(method, f"{api}{path}", json=body or None, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def listens():
        try:
            return requests.get(f"{api}/health", timeout=10).json()["service"]
        except requests.ConnectionError:
            return None

    def machines():
        (request,) = call("GET", f"/api/v1/requests/{asked}/status")["requests"]
        return request["machines"] if request["status"] == "complete" else None

    service = wait(listens)
    known = call("GET", f"/api/v1/templates/{template}")["template_id"]
    asked = call("POST", "/api/v1/machines/request", template_id=template, count=1)["request_id"]
    (machine,) = [machine["machine_id"] for machine in wait(machines)]
    shown = call("GET", f"/api/v1/machines/{machine}")
    call("POST", "/api/v1/machines/return", machine_ids=[machine])
    return {"service": service, "known": known, "machine": machine, "shown": shown}


def main():
    port = free_port()
    orb = str(Path(sys.executable).parent / "orb")
    command = [orb, "server", "start", "--foreground", "--api-only", "--host", "127.0.0.1", "--port", str(port)]
    with Path("server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            seen = live(f"http://127.0.0.1:{port}", sys.argv[1])
        finally:
            server.terminate()
    print(json.dumps(seen))


main()
