"""The state directory of a server that runs: one server at a time, and where clients find it."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.model.errors import HostError
from emberbox.settings import Settings


@contextlib.contextmanager
def locked_home(home: Path) -> Iterator[None]:
    """Make the home directory and hold its lock: two servers on one directory would destroy each other's work.

    Raises:
        HostError: another server holds it.
    """
    for name in ("runtime", "secrets", "images", "microvms", "builds", "kernel", "base"):
        (home / name).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    with (home / "runtime" / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(
                f"an Emberbox server runs on {home} already; `emberbox down` stops it, "
                "and EMBERBOX_HOME names another directory"
            ) from None
        yield


@contextlib.contextmanager
def endpoints_file(home: Path, endpoints: Mapping[str, str | int]) -> Iterator[None]:
    """Tell clients on this machine where everything is, for as long as the block lasts."""
    path = home / "runtime" / "endpoints.json"
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(endpoints, indent=2))
    scratch.chmod(0o600)
    scratch.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def sandbox_tokens(settings: Settings) -> SandboxTokens:
    """Return what opens sandboxes, for all edges that have them."""
    return SandboxTokens(settings.home / "secrets" / "sandboxes.key")


def database_url(settings: Settings, name: str) -> str:
    """Return where a database is: the operator's for all of them, or a file of the home directory."""
    return settings.database_url or f"sqlite:///{settings.home / name}"
