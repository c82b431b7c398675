"""Directories for what heavy tools need for a while: whatever happens, they are removed with all that is in them.

A tool gets its directory as TMPDIR, which what it starts inherits: so the next server finds the tools that a killed one
has left. They may have mounted something there, and as a user other than root they make files of other owners.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from emberbox import process
from emberbox.process.adoption import end_process, tools_of


def tool_environment(directory: Path) -> Mapping[str, str]:
    """Return the environment of a tool that keeps its temporary files in a directory."""
    return {**os.environ, "TMPDIR": str(directory)}


def make_outside(link: Path) -> Path:
    """Make a directory that other users can enter, unlike a state directory, and note it as a symbolic link."""
    directory = Path(tempfile.mkdtemp(prefix="emberbox-"))
    directory.chmod(0o755)
    link.unlink(missing_ok=True)
    link.symlink_to(directory)
    return directory


async def remove_outside(link: Path) -> None:
    """Remove what `make_outside` made, by this server or an earlier one."""
    if not link.is_symlink():
        return
    directory = link.readlink()
    if directory.is_dir() and not directory.is_symlink() and directory.stat().st_uid == os.geteuid():
        await asyncio.to_thread(end_tools, [directory])
        await remove_tree(directory)
    link.unlink()


def end_tools(directories: list[Path]) -> int:
    """Kill the tools that have these directories, or some in them, for temporary files; return how many there were.

    Raises:
        HostError: one does not end.
    """
    left = tools_of(directories)
    for pid in left:
        end_process(pid)
    return len(left)


async def remove_tree(directory: Path) -> None:
    """Remove a directory, with all that is mounted in it and whoever owns its files.

    Raises:
        CommandError: something in it is still used.
    """
    await unmount(directory)
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    if directory.exists() and os.geteuid() != 0:  # files of users that only a user namespace maps
        await process.run(["buildah", "unshare", "--", "rm", "-rf", directory])


async def unmount(directory: Path) -> None:
    """Undo what is mounted in a directory.

    Raises:
        CommandError: something there is still used.
    """
    for mount in reversed(_mounts_in(directory)):
        await process.run(["umount", mount])


def _mounts_in(directory: Path) -> list[str]:
    """Return the mount points in a directory, each after the one that it is on."""
    rows = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    return [point for point in rows if point.startswith(f"{directory}/")]
