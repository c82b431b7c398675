"""Root file systems of Debian, made by mmdebstrap from its packages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from emberbox import process
from emberbox.host import disk, scratch

SCRATCH = "scratch"
"""Leads to what mmdebstrap works in. Other users must get there, so it is not in the state directory."""

_TIMEOUT_S = 1800


async def bootstrap(
    archive: Path, suite: str, packages: Sequence[str], sources: Sequence[str] = (), options: Sequence[str] = ()
) -> None:
    """Make a root file system of Debian's essential packages, apt and some more, as a tar archive.

    Args:
        archive: where it goes, all at once.
        suite: the Debian release.
        packages: what it has besides.
        sources: lines of sources.list(5); by default the machine's own for its own release.
        options: further ones of mmdebstrap.

    Raises:
        CommandError: mmdebstrap failed.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    made = archive.with_name(f".{archive.name}")
    made.unlink(missing_ok=True)
    link = archive.with_name(SCRATCH)
    await scratch.remove_outside(link)
    mode = "root" if os.geteuid() == 0 else "unshare"
    common = ["--quiet", "--variant=minbase", f"--mode={mode}", f"--include={','.join(packages)}"]
    try:
        command = ["mmdebstrap", *common, *options, suite, str(made), *sources]
        environment = scratch.tool_environment(scratch.make_outside(link))
        await process.run(command, environment=environment, timeout=_TIMEOUT_S, enclosed=True)
        disk.sync(made)
        made.replace(archive)
        disk.sync(archive.parent)
    finally:
        made.unlink(missing_ok=True)
        await scratch.remove_outside(link)
