"""Machines by orb's REST server, which is started for it; prints what it saw as JSON."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import jwt
import requests

CONFIG = Path(os.environ["ORB_ROOT_DIR"]) / "config/config.json"


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


def let_in():
    """Set the secret that tokens are signed with; return the header of an operator, whom it lets make machines."""
    secret, now = secrets.token_hex(32), int(time.time())
    config = json.loads(CONFIG.read_text())
    auth = {"enabled": True, "strategy": "bearer_token", "bearer_token": {"secret_key": secret}}
    CONFIG.write_text(json.dumps({**config, "server": {"enabled": True, "auth": auth}}))
    claims = {"sub": "me", "roles": ["operator"], "permissions": [], "iat": now, "exp": now + 600, "type": "access"}
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}


def live(api, template, header):
    def call(method, path, **body):
        answer = requests.request(method, f"{api}{path}", json=body or None, headers=header, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def listens():
        try:
            return requests.get(f"{api}/health", timeout=10).json()["service"]
        except requests.ConnectionError:
            return None

    def machines():
        (request,) = call("GET", f"/api/v1/requests/{asked}/status")["requests"]
        if request["status"] == "failed":
            raise RuntimeError(request["message"])
        return request["machines"] if request["status"] == "complete" else None

    service = wait(listens)
    known = call("GET", f"/api/v1/templates/{template}")["template_id"]
    asked = call("POST", "/api/v1/machines/request", template_id=template, count=1)["request_id"]
    (machine,) = [machine["machine_id"] for machine in wait(machines)]
    shown = call("GET", f"/api/v1/machines/{machine}")
    call("POST", "/api/v1/machines/return", machine_ids=[machine])
    return {"service": service, "known": known, "machine": machine, "shown": shown}


def main():
    header, port = let_in(), free_port()
    orb = str(Path(sys.executable).parent / "orb")
    command = [orb, "server", "start", "--foreground", "--api-only", "--host", "127.0.0.1", "--port", str(port)]
    with Path("server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            seen = live(f"http://127.0.0.1:{port}", sys.argv[1], header)
        finally:
            server.terminate()
    print(json.dumps(seen))


main()
