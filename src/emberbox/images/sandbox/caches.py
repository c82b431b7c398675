"""The layers of earlier builds: what is kept of each account's, and which of it a build begins with.

There is an archive for what belongs together, not one for all of an account: whoever begins with an archive unpacks it,
and writes it anew at the end. An image's next version begins with the image's own; a new image with the one of a
Dockerfile that begins in the same way. Nothing of it is looked into here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Says which layers belong together.

    Args:
        account_id: whose it is.
        seed_id: of the store that sandboxes begin with; layers fit no other.
        image: the image's name.
        beginning: of its Dockerfile, see `dockerfile.find_beginning`.
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
        return name.startswith(self._prefix) and name.endswith(".tar")

    @property
    def _prefix(self) -> str:
        return f"{self.account_id}-{self.seed_id}-"


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

        Args:
            key: of what belongs together.
            made: the archive, on the same file system; what else is made beside it is the build's own.
        """
        if not made.exists() or not made.stat().st_size:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        os.utime(made)
        for name in key.names():
            (new := made.with_name(name)).hardlink_to(made)
            new.replace(self._directory / name)
        self._drop_old(key)

    def drop(self, used: Path) -> None:
        """Remove what a build was given, if it is there still: it may be what the sandbox could not begin with."""
        if used.exists():
            for path in self._directory.glob("*.tar"):
                if path.samefile(used):
                    path.unlink()

    def _drop_old(self, key: CacheKey) -> None:
        archives = dict[int, tuple[os.stat_result, list[Path]]]()
        for path in self._directory.glob(f"{key.account_id}-*"):
            status = path.stat()
            archives.setdefault(status.st_ino, (status, []))[1].append(path)
        total = 0
        for status, names in sorted(archives.values(), key=lambda archive: -archive[0].st_mtime_ns):
            if key.has(names[0].name) and (total == 0 or total + status.st_size <= self.bytes_max):
                total += status.st_size
                continue
            for path in names:
                path.unlink()
