"""Daytona's edge over a real control plane and a machine without microVMs: commands of guests run on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from emberbox.control.microvms.recovery import Recovery
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.asgi import serve
from emberbox.edges.connection_guard import GuardLimits
from emberbox.edges.daytona.app import DaytonaEdge, Offer
from emberbox.edges.sandboxes import api_keys
from emberbox.edges.sandboxes.interpreter import Program
from emberbox.model.iam.access import Credential
from support.e2b_world import E2bPlane
from support.plain_machine import FakeLeftovers
from support.wire import KEY, REGION


def daytona_key_of(credential: Credential) -> str:
    """Return Daytona's form of a key."""
    return api_keys.write_api_key(api_keys.DAYTONA, credential.access_key_id, credential.secret_access_key)


@contextlib.asynccontextmanager
async def serve_daytona(directory: Path, program: Program | None = None) -> AsyncIterator[E2bPlane]:
    """Serve Daytona's API, with one image, for as long as the block lasts; `plane.url` is its address.

    Args:
        directory: has the state, and what guests have.
        program: the interpreter of code.
    """
    plane = E2bPlane(directory, KEY, REGION)
    plane._log_writer.start()
    plane.control.launcher.recover(Recovery(FakeLeftovers(plane.disk), []))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        plane.url = f"http://127.0.0.1:{port}/api"
        edge = DaytonaEdge(
            Offer(
                sandboxes=plane.control.sandboxes,
                tokens=SandboxTokens(directory / "secrets/sandboxes.key"),
                guard=plane.access,
                region=REGION,
                domain=f"localhost:{port}",
                default_snapshot="standard",
                program=program,
                sessions_directory=f"{directory}/sessions-%d",
            )
        )
        plane.add_template("standard")
        try:
            async with serve(edge, listener, 75, limits=GuardLimits(), websocket_message_bytes=1 << 16):
                yield plane
        finally:
            await edge.close()
            await plane.control.sandboxes.service.close()
            await plane.close()
            await plane.local.close()
            _end_sessions(directory)


def _end_sessions(directory: Path) -> None:
    """End the shells of sessions that no test has deleted: here they are this machine's."""
    for path in directory.glob("sessions-*/*/pid"):
        with contextlib.suppress(OSError, ValueError):
            shell = int(path.read_text())
            if any(str(directory) in os.readlink(fd) for fd in Path(f"/proc/{shell}/fd").iterdir()):  # noqa: PTH115
                os.killpg(shell, signal.SIGKILL)  # else it has ended, and its number is another's
