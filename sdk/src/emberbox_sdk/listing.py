"""What `sh`, `find` and `stat` of a sandbox are asked, and how their answers are read; GNU's and busybox's both do.

A record ends with `//` and a new line, which no name can have in it: paths are normalised, and names have no slash.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from emberbox_sdk.results import Change, Entry, FileEvent, Kind

_RECORD: Final = "%f %s %u %g %Y/%y/%n//"
_END: Final = b"//\n"
_TYPE_MASK: Final = 0o170000
_KINDS: Final = {0o100000: Kind.FILE, 0o040000: Kind.DIRECTORY, 0o120000: Kind.LINK}

NOT_THERE: Final = 44
"""The exit code of `LIST` and `STAT` where nothing is at the path."""

NOT_A_DIRECTORY: Final = 45

STAT: Final = f'[ -e "$1" ] || [ -L "$1" ] || exit {NOT_THERE}; exec stat -c "{_RECORD}" -- "$1"'
LIST: Final = (
    f'[ -e "$1" ] || exit {NOT_THERE}; [ -d "$1" ] || exit {NOT_A_DIRECTORY}; '
    f'exec find "$1/" -mindepth 1 -maxdepth "$2" -exec stat -c "{_RECORD}" -- {{}} +'
)
MAKE_DIRECTORY: Final = 'exec mkdir -p -- "$1"'
REMOVE: Final = f'[ -e "$1" ] || [ -L "$1" ] || exit {NOT_THERE}; exec rm -rf -- "$1"'
RENAME: Final = f'[ -e "$1" ] || [ -L "$1" ] || exit {NOT_THERE}; exec mv -f -- "$1" "$2"'
WATCH: Final = f"""
[ -d "$1" ] || exit {NOT_THERE}
seen=; first=1
while :; do
    now=$(find "$1/" -mindepth 1 -maxdepth "$2" -exec stat -c "{_RECORD}" -- {{}} + 2>/dev/null)
    if [ "$first" ] || [ "$now" != "$seen" ]; then printf '%s\\n///\\n' "$now" || exit 0; fi
    seen=$now; first=
    sleep "$3" || sleep 1
done
"""
"""Writes the whole listing, and again whenever it has changed; nothing crosses the network in between."""

PICTURE_END: Final = b"\n///\n"
EVERY_LEVEL: Final = 1 << 20


def normalise(path: str) -> str:
    """Return an absolute path without `.`, `..` and doubled slashes; what does not begin with / is taken from there."""
    found = posixpath.normpath("/" + path)
    return "/" + found.lstrip("/")


def read_entries(listed: bytes) -> list[Entry]:
    """Return the entries of a listing, by their paths."""
    return sorted(map(_read, _records(listed)), key=lambda entry: entry.path)


def _records(listed: bytes) -> Iterator[bytes]:
    for record in (listed.rstrip(b"\n") + b"\n").split(_END):
        if record.strip(b"\n"):
            yield record


def _read(record: bytes) -> Entry:
    fields, moment, path = record.split(b"/", 2)
    mode, size, uid, gid, seconds = fields.split()
    bits = int(mode, 16)
    return Entry(
        path=normalise(path.decode(errors="surrogateescape")),
        kind=_KINDS.get(bits & _TYPE_MASK, Kind.OTHER),
        size=int(size),
        mode=bits & 0o7777,
        uid=int(uid),
        gid=int(gid),
        modified_at=int(seconds) + _fraction(moment),
    )


def _fraction(moment: bytes) -> float:
    """Return the part of a second that a time has, as in `2026-11-26 03:12:01.250000000 +0000`."""
    digits = moment.partition(b".")[2].split(b" ")[0]
    return float(b"0." + digits) if digits.isdigit() else 0.0


def compare(before: Iterable[Entry], now: Iterable[Entry]) -> list[FileEvent]:
    """Return what must have happened between two listings; a directory's own size and time do not count."""
    old, new = ({entry.path: entry for entry in entries} for entries in (before, now))
    found = [FileEvent(Change.REMOVED, path) for path in old.keys() - new.keys()]
    found += [FileEvent(Change.CREATED, path) for path in new.keys() - old.keys()]
    found += [
        FileEvent(Change.MODIFIED, path)
        for path in old.keys() & new.keys()
        if old[path] != new[path] and Kind.DIRECTORY not in (old[path].kind, new[path].kind)
    ]
    return sorted(found, key=lambda event: (event.path, event.change))
