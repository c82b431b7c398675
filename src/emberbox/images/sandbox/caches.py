"""The layers of earlier builds: what is kept of each account's, and which of it a build begins with.

There is an archive for what belongs together, not one for all of an account: whoever begins with an archive unpacks it,
and writes it anew at the end. An image's next version begins with the image's own; a new image with the one of a
Dockerfile that begins in the same way. Nothing of it is looked into here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FIRST_STEP: Final = re.compile(rb"(?im)^[ \t]*RUN\b(?:[^\n]*\\\r?\n)*[^\n]*")
_NEW: Final = ".new"


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Says which layers belong together.

    Args:
        account_id: whose it is.
        seed_id: of the store that sandboxes begin with; layers fit no other.
        image: the image's name.
        beginning: of its Dockerfile, see `find_beginning`.
    """

    account_id: str
    seed_id: str
    image: str
    beginning: bytes

    def names(self) -> tuple[str, str]:
        """Return the names that its archive has, the one that is looked for first being the image's own."""
        of = (b"image " + self.image.encode(), b"beginning " + self.beginning)
        image, beginning = (hashlib.sha256(text).hexdigest()[:16] for text in of)
        return f"{self._prefix}{image}.tar", f"{self._prefix}{beginning}.tar"

    def has(self, name: str) -> bool:
        """Say whether an archive is of the same account and the same seed."""
        return name.startswith(self._prefix)

    @property
    def _prefix(self) -> str:
        return f"{self.account_id}-{self.seed_id}-"


def find_beginning(dockerfile: bytes) -> bytes:
    """Return a Dockerfile up to its first RUN, with it: what comes after is often other, and what is long is there."""
    found = _FIRST_STEP.search(dockerfile)
    return dockerfile if found is None else dockerfile[: found.end()]


class LayerCaches:
    """The archives, each a file with the names that it is looked for by.

    Args:
        directory: where they are.
        bytes_max: how large an account's are together, where there is more than one; 0 keeps none.
    """

    def __init__(self, directory: Path, bytes_max: int) -> None:
        self._directory = directory
        self.bytes_max = bytes_max

    def hold(self, key: CacheKey, used: Path) -> bool:
        """Give a build an archive that stays there, whatever other builds of the account put in its place.

        A sandbox dies of a file that goes before it has begun.

        Args:
            key: of what belongs together.
            used: where the build gets it, on the same file system.

        Returns:
            whether there is one.
        """
        for name in key.names():
            with contextlib.suppress(FileNotFoundError):
                used.hardlink_to(self._directory / name)
                os.utime(used)
                return True
        return False

    def keep(self, key: CacheKey, made: Path) -> None:
        """Let a new archive take the place of an earlier one; an empty one, or none, is not kept.

        What the account has of another seed goes, and what was used longest ago as far as there is too much.
        """
        if not made.exists() or not made.stat().st_size:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        os.utime(made)
        for name in key.names():
            (new := self._directory / f"{name}{_NEW}").unlink(missing_ok=True)
            new.hardlink_to(made)
            new.replace(self._directory / name)
        self._drop_old(key)

    def drop(self, used: Path) -> None:
        """Remove what a build was given, if it is there still: it may be what the sandbox could not begin with."""
        if used.exists():
            for path in self._directory.glob("*.tar"):
                if path.samefile(used):
                    path.unlink()

    def _drop_old(self, key: CacheKey) -> None:
        archives = dict[int, list[Path]]()
        for path in self._directory.glob(f"{key.account_id}-*"):
            if path.suffix == _NEW:  # of a server that was killed
                path.unlink()
            else:
                archives.setdefault(path.stat().st_ino, []).append(path)
        total = 0
        for names in sorted(archives.values(), key=lambda names: -names[0].stat().st_mtime_ns):
            size = names[0].stat().st_size
            if key.has(names[0].name) and (total == 0 or total + size <= self.bytes_max):
                total += size
                continue
            for path in names:
                path.unlink()
