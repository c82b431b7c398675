"""Daytona's SDK, as it is published, in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from emberbox.cli.context import get_server
from emberbox.edges.sandboxes import api_keys
from emberbox.time_limits import limit_s
from support.images import Image
from support.server import Server
from support.third_party import Client, install_python

DAYTONA = Client("Daytona", "Daytona's SDK for Python", "0.226.1", "daytona")
CASES = Path(__file__).resolve().parents[1] / "conformance/daytona"
TIMEOUT_S = 1200


def daytona_variables(server: Server) -> dict[str, str]:
    """Return the SDK's own variables, with the key of the server's operator."""
    found = get_server(server.home)
    key = api_keys.write_api_key(api_keys.DAYTONA, found.access_key_id, found.secret_access_key)
    return {"DAYTONA_API_URL": server.endpoints["daytona_url"], "DAYTONA_API_KEY": key}


def run_daytona(server: Server, directory: Path, *arguments: str, image: Image | None = None) -> str:
    """Run the Python that has the SDK, which must succeed; return what it prints.

    Args:
        server: where the SDK is led.
        directory: the user's home.
        arguments: of Python.
        image: what the cases create sandboxes from.
    """
    python = install_python(DAYTONA, f"pytest=={pytest.__version__}") / "python"
    own = {} if image is None else {"EMBERBOX_TEST_SNAPSHOT": image.name, "EMBERBOX_TEST_PORT": "8080"}
    plain = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [python, *arguments],
        env={**plain, **daytona_variables(server), **own},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=limit_s(TIMEOUT_S),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run_cases(server: Server, directory: Path, name: str, image: Image) -> None:
    """Run a file of cases, by a pytest of its own and none of our settings."""
    plain = ["-c", os.devnull, f"--rootdir={CASES}", "--noconftest", "-p", "no:cacheprovider"]
    run_daytona(server, directory, "-m", "pytest", "--quiet", *plain, str(CASES / name), image=image)
