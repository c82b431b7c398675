"""A server that runs as an ordinary user, whoever runs the tests.

The user exists in a mount namespace of the server's alone: it has its own /etc/passwd and, as container builds need
it, a range of subordinate ids. There, too, the user reaches the interpreter and the checkout, wherever they are: such
as in the home directory of root, which nobody else may enter.
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from support import server
from support.server import Server

USER: Final = "emberbox-test"
UID: Final = 54_321
FIRST_SUBORDINATE, SUBORDINATES = 754_321, 65_536
_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_NEEDED: Final = (_REPOSITORY, Path(sys.prefix), Path(sys.base_prefix).resolve())


class UnprivilegedServer(Server):
    """A server of that user's. Its home is in a directory that belongs to the user; start it as root."""

    @property
    def _surroundings(self) -> Path:
        return self.home.parent / "surroundings"

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of `emberbox` as that user; the process that it starts becomes `emberbox`."""
        emberbox = super().command(*arguments)
        script = "\n".join(["set -eu", *self._mounts(), 'exec "$@"'])
        become = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all", "--")
        enter = ("unshare", "--mount", "--propagation=private", "--", "sh", "-c", script, "sh")
        unset = [word for name in _OF_THE_CALLER for word in ("-u", name)]
        own = (f"HOME={self.home.parent}", f"USER={USER}", f"LOGNAME={USER}")
        return [*enter, *become, "env", *unset, *own, *emberbox]

    def _working_directory(self) -> Path:
        """Return one that the user may enter."""
        return self.home.parent

    def _seed(self) -> None:
        """Make the home once; the user's are copies, as a file has one owner by all its names."""
        if self.home.exists():
            return
        self.home.mkdir()
        for name in ("kernel", "base", "packages"):
            if (server.cache() / name).is_dir():
                shutil.copytree(server.cache() / name, self.home / name, symlinks=True)
        for directory, names, files in os.walk(self.home.parent):
            for path in (Path(directory), *(Path(directory, each) for each in (*names, *files))):
                os.chown(path, UID, UID, follow_symlinks=False)
        self._surroundings.mkdir()
        for name, line in _ACCOUNTS.items():
            earlier = Path("/etc", name).read_text() if Path("/etc", name).exists() else ""
            (self._surroundings / name).write_text(f"{earlier}{line}\n")

    def _mounts(self) -> Iterator[str]:
        """Return what makes the user known, and lets it reach what it needs, in the mount namespace."""
        for name in _ACCOUNTS:
            yield f"mount --bind {self._surroundings / name} /etc/{name}"
        for closed, needed in find_closed(_NEEDED).items():
            kept = [(path, self._surroundings / f"kept-{number}") for number, path in enumerate(needed)]
            for path, place in kept:
                yield f"mkdir -p {place}; mount --bind {shlex.quote(str(path))} {place}"
            yield f"mount -t tmpfs -o mode=755 closed {shlex.quote(str(closed))}"
            for path, place in kept:
                yield f"mkdir -p {shlex.quote(str(path))}; mount --move {place} {shlex.quote(str(path))}"


_OF_THE_CALLER: Final = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
"""Variables that name directories of whoever runs the tests."""

_ACCOUNTS: Final = {
    "passwd": f"{USER}:x:{UID}:{UID}::/nonexistent:/bin/sh",
    "group": f"{USER}:x:{UID}:",
    "subuid": f"{USER}:{FIRST_SUBORDINATE}:{SUBORDINATES}",
    "subgid": f"{USER}:{FIRST_SUBORDINATE}:{SUBORDINATES}",
}


def find_closed(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the directories that an ordinary user may not enter, each with what of the paths is in it."""
    found: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        ways = [each for each in reversed(path.parents) if not each.stat().st_mode & stat.S_IXOTH]
        if ways:
            found.setdefault(ways[0], []).append(path)
    return found
