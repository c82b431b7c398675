"""The AWS CLI of PyPI at a user's desk: what tests of other clients do with it beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.third_party import Desk, install_python, read_clients

CLIENT = "AWS CLI"


class AwsCli:
    """Runs the program.

    Args:
        desk: where.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._program: Path = install_python(read_clients()[CLIENT]) / "aws"

    def run(self, *arguments: str) -> str:
        """Run a command that must succeed; return what it prints."""
        return self._desk.run(self._program, *arguments)

    def call(self, *arguments: str) -> dict[str, Any]:
        """Call an operation, and return its answer. Any: JSON."""
        answer: dict[str, Any] = json.loads(self.run(*arguments, "--output", "json") or "{}")
        return answer

    def ask_microvm(self, image_arn: str) -> tuple[str, dict[str, Any]]:
        """Run a microVM, ask it by its endpoint's name without a port, and terminate it.

        Returns:
            Its id, and the JSON that its application at port 8080 answers.
        """
        run = self.call("lambda-microvms", "run-microvm", "--image-identifier", image_arn)
        which = ("--microvm-identifier", str(run["microvmId"]))
        assert ":" not in str(run["endpoint"]), "it is served at 443"
        token = self.call(
            *("lambda-microvms", "create-microvm-auth-token", *which, "--expiration-in-minutes", "5"),
            *("--allowed-ports", "port=8080"),
        )
        (value,) = token["authToken"].values()
        asked = (
            "--retry",
            "20",
            "--retry-all-errors",
            "--retry-delay",
            "1",
            "-fsS",
            "-H",
            f"X-aws-proxy-auth: {value}",
        )
        answer = json.loads(self._desk.run("curl", *asked, f"https://{run['endpoint']}/"))
        self.call("lambda-microvms", "terminate-microvm", *which)
        return str(run["microvmId"]), answer
