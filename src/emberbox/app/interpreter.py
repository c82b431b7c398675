"""The interpreter that runs code in sandboxes: the Python SDK's, where that is installed."""

from __future__ import annotations

import logging
from importlib import resources

from emberbox.edges.sandboxes.interpreter import Program

log = logging.getLogger(__name__)


def find_program() -> Program | None:
    """Return the interpreter of the Python SDK as text; None where the SDK is not installed beside the server."""
    try:
        files = resources.files("emberbox_sdk")
        return Program(files.joinpath("bridge.py").read_text(), files.joinpath("kernel.py").read_text())
    except (ModuleNotFoundError, FileNotFoundError):
        log.warning("emberbox-sdk is not installed: sandboxes of E2B's and Daytona's APIs have no code interpreter")
        return None
