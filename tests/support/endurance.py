"""The host's side of endure.py: a workload in a microVM that is suspended and resumed under it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import shell
from support.guests import Microvm
from support.waiting import wait_for

SCRIPT = Path(__file__).with_name("endure.py")
DIRECTORY = "/data/endure"
CHECK_TIMEOUT_S = 240.0


class Workload:
    """endure.py at work in a microVM of the Flask example, which was run with SHELL_INGRESS."""

    def __init__(self, microvm: Microvm) -> None:
        self.microvm = microvm
        path = "/data/endure.py"
        answer = shell.request(microvm, "PUT", f"/files?path={path}", content=SCRIPT.read_bytes())
        assert answer.status_code in (200, 201, 204), answer.text
        shell.run(microvm, f"setsid python3 {path} {DIRECTORY} >/data/endure.log 2>&1 </dev/null &")
        wait_for("the workload has started", lambda: self._has("started"), CHECK_TIMEOUT_S)

    def check(self) -> dict[str, Any]:
        """Let it compare everything with what must be; return the number of its steps and what is wrong."""
        shell.run(self.microvm, f"rm -f {DIRECTORY}/verdict; touch {DIRECTORY}/check")
        wait_for("the workload has compared", lambda: self._has("verdict"), CHECK_TIMEOUT_S)
        verdict: dict[str, Any] = json.loads(shell.run(self.microvm, f"cat {DIRECTORY}/verdict"))
        return verdict

    def _has(self, name: str) -> bool:
        command = f"[ -e {DIRECTORY}/{name} ] && echo yes || cat /data/endure.log"
        shown = shell.run(self.microvm, command).strip()
        assert "Traceback" not in shown, shown
        return shown == "yes"
