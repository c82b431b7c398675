"""The command line of `runsc`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.model.errors import HostError

PLATFORM: Final = "systrap"
OLDEST: Final = "20231009"
"""Releases before this one have no EROFS root file system; before 2023 there is no systrap either."""

VERSION_TIMEOUT_S: Final = 20.0

SANDBOX_ID: Final = "vm"


def create_line(
    binary: Path, state: Path, bundle: Path, log_fd: int | None = None, options: Sequence[str] = ()
) -> list[str]:  # fmt: skip
    """Return the command that makes a sandbox, which has this command's standard input, output and errors from then on.

    It ends when the sandbox is there; the sandbox's own process is nobody's child then, and leads a session. Nothing
    runs in it before `Control.start` or `Control.restore`.

    Args:
        binary: runsc.
        state: a directory of this sandbox's own, where its control socket is (`control_socket`).
        bundle: from `bundle.write_bundle`.
        log_fd: an inherited descriptor for errors; without it they go where the command's own errors go, which the
            sandbox has too.
        options: more of runsc's own flags.
    """
    return [
        str(binary),
        f"--root={state}",
        f"--platform={PLATFORM}",
        "--network=sandbox",
        "--net-disconnect-ok",  # or one connection to outside refuses every checkpoint
        "--overlay2=root:memory",
        "--ignore-cgroups",  # limits are set around it: not every machine delegates a hierarchy
        *([] if log_fd is None else [f"--log-fd={log_fd}"]),
        *options,
        "create",
        f"--bundle={bundle}",
        SANDBOX_ID,
    ]


def run_line(binary: Path, state: Path, bundle: Path, log: Path, panic_log: Path, *, has_network: bool) -> list[str]:
    """Return the command that runs a sandbox to its end, and exits as its first process does.

    What it may write it writes to the host's files, past any layer; nobody else writes to what it has of the host.

    Args:
        binary: runsc.
        state: a directory of this sandbox's own.
        bundle: from `bundle.write_bundle`.
        log: where its processes on the host say why they end, the gofer's among them, which has no other place.
        panic_log: where the sandbox says why it dies, if it can.
        has_network: it takes over the devices of its network namespace; else it has none.
    """
    return [
        str(binary),
        f"--root={state}",
        f"--platform={PLATFORM}",
        f"--network={'sandbox' if has_network else 'none'}",
        "--overlay2=none",
        "--file-access-mounts=exclusive",
        "--ignore-cgroups",
        f"--log={log}",
        f"--panic-log={panic_log}",
        "run",
        f"--bundle={bundle}",
        SANDBOX_ID,
    ]


def control_socket(state: Path) -> Path:
    """Return where a sandbox takes calls. A path longer than a socket's address may be is made elsewhere by runsc."""
    return state / f"runsc-{SANDBOX_ID}.sock"


async def find_version(binary: Path) -> str:
    """Return the version of runsc, such as `20240729.0`.

    Raises:
        HostError: it is missing, does not run here, or is too old; the message says what to do.
    """
    done = await process.run([binary, "--version"], timeout=VERSION_TIMEOUT_S)
    found = re.search(r"^runsc version (?:release-|0\.0~)?(\d{8}\.\d+)", done.stdout, re.MULTILINE)
    if found is None:
        raise HostError(f"{binary} says no version that is known here: {done.stdout.strip()[:200]}")
    if found[1] < OLDEST:
        raise HostError(
            f"{binary} is of {found[1]}, and {OLDEST} is the oldest that works; "
            "bookworm-backports and Debian 13 have a later one"
        )
    return found[1]
