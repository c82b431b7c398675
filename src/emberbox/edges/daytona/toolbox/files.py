"""Names of files: lists, moves, permissions."""

from __future__ import annotations

import posixpath
import re
import stat
from datetime import UTC, datetime
from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.background import in_thread
from emberbox.edges.daytona.errors import FILE_ACCESS_DENIED, FILE_NOT_FOUND, INVALID_FILE_PATH
from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.entries import Entry
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.scripts import RESOLVE, Done, run_script
from emberbox.edges.sandboxes.visit import Visit

DEPTH_MAX: Final = 100
PATH_BYTES_MAX: Final = 4095
_IS_DIRECTORY: Final = 48
_MODE: Final = re.compile(r"0?[0-7]{3,4}")
_OWNER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_MAKE: Final = f"""{RESOLVE}
at "$1"
[ ! -d "$p" ] || exit 0
[ ! -e "$p" ] || exit {entries.NOT_A_DIRECTORY}
mkdir -p -- "$p" && chmod "$2" "$p"
"""
_DELETE: Final = f"""{RESOLVE}
at "$1"
[ -e "$p" ] || [ -L "$p" ] || exit {entries.NOT_THERE}
if [ -d "$p" ] && [ ! -L "$p" ] && [ "$2" != true ]; then exit {_IS_DIRECTORY}; fi
exec rm -rf -- "$p"
"""
_PERMIT: Final = f"""{RESOLVE}
at "$1"
[ -e "$p" ] || exit {entries.NOT_THERE}
[ -z "$2" ] || chmod "$2" "$p" || exit 1
[ -z "$3" ] || chown "$3" "$p" || exit 1
[ -z "$4" ] || chgrp "$4" "$p"
"""
_MEANINGS: Final = {
    entries.NOT_THERE: (404, "{path}: there is no such file or directory", FILE_NOT_FOUND),
    entries.NOT_A_DIRECTORY: (400, "{path} is no directory", INVALID_FILE_PATH),
    entries.IN_THE_WAY: (409, "something is in the way of {path}, at its destination", ""),
    _IS_DIRECTORY: (400, "{path} is a directory: delete it with recursive=True", INVALID_FILE_PATH),
}


async def list_files(visit: Visit, call: Call) -> Response:
    """`GET /files`."""
    path, depth = read_path(call, default="."), call.request.query_params.get("depth", "1")
    if not depth.isdecimal() or not 1 <= int(depth[:4]) <= DEPTH_MAX:
        raise ApiError(400, f"depth must be 1 to {DEPTH_MAX}")
    done = await run_script(visit, entries.LIST, path, depth)
    found = [] if done.exit_code in _MEANINGS else await in_thread(_show_all, done.output)
    if not found:
        check(done, path)  # else something in it cannot be read, and the rest is told
    return JSONResponse(found)


async def get_info(visit: Visit, call: Call) -> Response:
    """`GET /files/info`."""
    path = read_path(call)
    done = await run_script(visit, entries.STAT, path)
    check(done, path)
    return JSONResponse(show_entry(entries.read_entries(done.output)[0]))


async def make_folder(visit: Visit, call: Call) -> Response:
    """`POST /files/folder`, with those above it; one that is there is no error."""
    path = read_path(call)
    check(await run_script(visit, _MAKE, path, _read(call, "mode", _MODE) or "0755"), path)
    return Response(status_code=201)


async def delete(visit: Visit, call: Call) -> Response:
    """`DELETE /files`."""
    path = read_path(call)
    if path == "/":
        raise ApiError(400, "the root directory cannot be deleted", INVALID_FILE_PATH)
    recursive = call.request.query_params.get("recursive", "false").lower()
    check(await run_script(visit, _DELETE, path, recursive), path)
    return Response(status_code=204)


async def move(visit: Visit, call: Call) -> Response:
    """`POST /files/move`, as rename(2) does it."""
    source, destination = read_path(call, "source"), read_path(call, "destination")
    check(await run_script(visit, entries.MOVE, source, destination), source)
    return Response(status_code=200)


async def set_permissions(visit: Visit, call: Call) -> Response:
    """`POST /files/permissions`."""
    path = read_path(call)
    mode, owner, group = _read(call, "mode", _MODE), _read(call, "owner", _OWNER), _read(call, "group", _OWNER)
    check(await run_script(visit, _PERMIT, path, mode, owner, group), path)
    return Response(status_code=200)


def read_path(call: Call, name: str = "path", default: str = "") -> str:
    """Return a path of the query.

    Raises:
        ApiError: there is none, or it is too long.
    """
    return check_path(call.request.query_params.get(name) or default, name)


def check_path(path: str, name: str = "path") -> str:
    """Return a path that can be one.

    Raises:
        ApiError: it cannot.
    """
    if not path or "\0" in path or len(path.encode(errors="replace")) > PATH_BYTES_MAX:
        text = f"{name} must have 1 to {PATH_BYTES_MAX} bytes, none of them zero"
        raise ApiError(400, text, INVALID_FILE_PATH)
    return entries.normalise(path)


def _read(call: Call, name: str, form: re.Pattern[str]) -> str:
    value = call.request.query_params.get(name, "")
    if value and not form.fullmatch(value):
        raise ApiError(400, f"{name} must be of the form {form.pattern}")
    return value


def check(done: Done, path: str) -> None:
    """Refuse what a script could not do.

    Raises:
        ApiError: it failed.
    """
    if not done.exit_code:
        return
    if done.exit_code in _MEANINGS:
        status, text, code = _MEANINGS[done.exit_code]
        raise ApiError(status, text.format(path=path), code)
    if "ermission denied" in done.errors or "not permitted" in done.errors:
        raise ApiError(403, done.errors, FILE_ACCESS_DENIED)
    raise ApiError(500, done.errors or f"{path}: it failed with {done.exit_code}")


def _show_all(listed: bytes) -> list[Json]:
    return [show_entry(entry) for entry in entries.read_entries(listed)]


def show_entry(entry: Entry) -> Json:
    """Return an entry as a `FileInfo`."""
    counts = entry.target_mode if stat.S_ISLNK(entry.mode) else entry.mode
    seconds, _, fraction = entry.modified.partition(".")
    moment = datetime.fromtimestamp(int(seconds), UTC)
    modified = f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction[:9]}Z"
    return {
        "name": posixpath.basename(entry.path) or "/",
        "path": entry.path,
        "isDir": stat.S_ISDIR(counts),
        "size": entry.size,
        "mode": stat.filemode(entry.mode),
        "permissions": f"{stat.S_IMODE(entry.mode):04o}",
        "owner": entry.owner,
        "group": entry.group,
        "modTime": modified,
        "modifiedAt": modified,
    }
