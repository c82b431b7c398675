"""What is at a path, as E2B's `EntryInfo`."""

from __future__ import annotations

import posixpath
import stat
from datetime import UTC, datetime
from typing import Final

from emberbox.edges.e2b.envd.connect import Json
from emberbox.edges.sandboxes.entries import Entry

_TYPES: Final = {stat.S_IFREG: "FILE_TYPE_FILE", stat.S_IFDIR: "FILE_TYPE_DIRECTORY"}
_UNKNOWN: Final = "FILE_TYPE_UNSPECIFIED"


def show_entry(entry: Entry) -> Json:
    """Return an entry as an `EntryInfo`."""
    is_link = stat.S_ISLNK(entry.mode)
    counts = entry.target_mode if is_link else entry.mode
    seconds, _, fraction = entry.modified.partition(".")
    moment = datetime.fromtimestamp(int(seconds), UTC)
    shown: Json = {
        "name": posixpath.basename(entry.path) or "/",
        "type": _TYPES.get(stat.S_IFMT(counts), _UNKNOWN),
        "path": entry.path,
        "size": str(entry.size),
        "mode": stat.S_IMODE(entry.mode),
        "permissions": stat.filemode(entry.mode),
        "owner": entry.owner,
        "group": entry.group,
        "modifiedTime": f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction[:9]}Z",
    }
    if entry.target is not None:
        shown |= {"symlinkTarget": entry.target, "isSymlink": is_link}
    return shown
