"""What `sh`, `find` and `stat` of a sandbox say of files, and how that is read; GNU's and busybox's both do.

A record ends with `//` and a new line, which no name can have in it: names have no slash. Links are told once more
behind all records: path, target, and the mode of what is there, each with a zero behind it.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from emberbox.edges.sandboxes.scripts import RESOLVE

NOT_THERE, NOT_A_DIRECTORY, IS_THERE, IN_THE_WAY = 44, 45, 46, 47
"""Exit codes of the scripts."""

_RECORD: Final = "%f %s %U %G %i %Y/%y/%n//"
_END: Final = b"//\n"
_LINKS: Final = b"///\n"
_TELL_LINKS: Final = (
    'for f; do printf "%s\\\\0%s\\\\0%s\\\\0" "$f" "$(readlink "$f")" "$(stat -Lc %f "$f" 2>/dev/null)"; done'
)
_SHOW: Final = f"""
tell_links='{_TELL_LINKS}'
show() {{
    [ "$1" != / ] || set -- /.
    stat -c '{_RECORD}' -- "$1" || exit
    echo ///
    [ ! -L "$1" ] || sh -c "$tell_links" sh "$1"
}}
"""

STAT: Final = f"""{RESOLVE}{_SHOW}
at "$1"
[ -e "$p" ] || [ -L "$p" ] || exit {NOT_THERE}
show "$p"
"""
LIST: Final = f"""{RESOLVE}{_SHOW}
at "$1"
[ -e "$p" ] || exit {NOT_THERE}
[ -d "$p" ] || exit {NOT_A_DIRECTORY}
find "$p/" -mindepth 1 -maxdepth "$2" -exec stat -c '{_RECORD}' -- {{}} +
echo ///
find "$p/" -mindepth 1 -maxdepth "$2" -type l -exec sh -c "$tell_links" sh {{}} + 2>/dev/null
"""
MAKE_DIRECTORY: Final = f"""{RESOLVE}{_SHOW}
at "$1"
[ ! -d "$p" ] || exit {IS_THERE}
[ ! -e "$p" ] || exit {NOT_A_DIRECTORY}
mkdir -p -- "$p" || exit 1
show "$p"
"""
MOVE: Final = f"""{RESOLVE}{_SHOW}
at "$2"; q=$p
at "$1"
[ -e "$p" ] || [ -L "$p" ] || exit {NOT_THERE}
if [ -d "$q" ] && [ ! -L "$q" ]; then
    [ -d "$p" ] && rmdir -- "$q" 2>/dev/null || exit {IN_THE_WAY}
fi
mkdir -p -- "$(dirname -- "$q")" && mv -f -- "$p" "$q" || exit 1
show "$q"
"""
REMOVE: Final = f"""{RESOLVE}
at "$1"
exec rm -rf -- "$p"
"""
WATCH: Final = f"""{RESOLVE}
at "$1"
[ -e "$p" ] || exit {NOT_THERE}
[ -d "$p" ] || exit {NOT_A_DIRECTORY}
printf '%s\n///\n' "$p"
seen=; first=1
while :; do
    now=$(find "$p/" -mindepth 1 -maxdepth "$2" -exec stat -c '{_RECORD}' -- {{}} + 2>/dev/null)
    if [ "$first" ] || [ "$now" != "$seen" ]; then printf '%s\\n///\\n' "$now" || exit 0; fi
    seen=$now; first=
    sleep "$3" || sleep 1
done
"""
"""Writes the path, then the whole listing, and again whenever it has changed; else nothing crosses to the host."""

PICTURE_END: Final = b"\n///\n"
EVERY_LEVEL: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at a path.

    Attributes:
        path: absolute.
        mode: type and permissions, as stat(2) has them.
        size: in bytes.
        owner: name of the user, `UNKNOWN` where it has none.
        group: name of the group.
        inode: its number.
        modified: when its content was changed, as `stat` tells it.
        target: of a link.
        target_mode: of what the link leads to; 0 where it leads nowhere.
    """

    path: str
    mode: int
    size: int
    owner: str
    group: str
    inode: int
    modified: str
    target: str | None = None
    target_mode: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


def normalise(path: str) -> str:
    """Return a path without `.`, `..` and doubled slashes, as far as that can be said of it alone."""
    found = posixpath.normpath(path) if path else "."
    return "/" + found.lstrip("/") if found.startswith("/") else found


def read_entries(listed: bytes) -> list[Entry]:
    """Return the entries that a script has shown, by their paths."""
    records, _, links = (b"\n" + listed).partition(b"\n" + _LINKS)
    return sorted(_read_all(records, links), key=lambda entry: entry.path)


def read_picture(listed: bytes) -> list[Entry]:
    """Return the entries of one listing of `WATCH`."""
    return list(_read_all(listed, b""))


def _read_all(records: bytes, links: bytes) -> Iterator[Entry]:
    fields = links.split(b"\0")
    told = {fields[at]: fields[at + 1 : at + 3] for at in range(0, len(fields) - 2, 3)}
    for record in (records.strip(b"\n") + b"\n").split(_END):
        if record.strip(b"\n"):
            head, moment, path = record.lstrip(b"\n").split(b"/", 2)
            yield _read(head, moment, path, told.get(path))


def _read(head: bytes, moment: bytes, path: bytes, link: list[bytes] | None) -> Entry:
    mode, size, owner, group, inode, seconds = head.decode(errors="replace").split()
    target = None if link is None else link[0].decode(errors="replace")
    target_mode = int(link[1] or b"0", 16) if link else 0
    fraction = moment.decode(errors="replace").partition(".")[2].partition(" ")[0]
    modified = f"{seconds}.{fraction if fraction.isdigit() else '0'}"
    found = normalise("/" + path.decode(errors="replace"))
    return Entry(found, int(mode, 16), int(size), owner, group, int(inode), modified, target, target_mode)
