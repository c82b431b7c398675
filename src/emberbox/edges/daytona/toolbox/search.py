"""What files are called and what is in them: search and replacement."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from emberbox.background import in_thread
from emberbox.edges.daytona.toolbox.files import check, check_path, read_path
from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.contents import Target, open_content
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.scripts import RESOLVE, run_script
from emberbox.edges.sandboxes.visit import Visit

FILE_BYTES_MAX: Final = 8 << 20
FILES_MAX: Final = 1000
_PATTERN_BYTES_MAX: Final = 4096
_DIGITS_MAX: Final = 12

_FIND: Final = f"""{RESOLVE}
at "$1"
[ -e "$p" ] || exit {entries.NOT_THERE}
if printf x | grep -qI --null x 2>/dev/null; then
    find "$p" -type f -exec grep -nIHF --null -e "$2" -- {{}} + 2>/dev/null
else
    find "$p" -type f -exec sh -c 'w=$1; shift; for f; do grep -nF -e "$w" -- "$f" | while IFS= read -r l; do
        printf "%s\\0%s\\n" "$f" "$l"; done; done' sh "$2" {{}} + 2>/dev/null
fi
exit 0
"""
"""GNU's grep leaves out what is no text; busybox's cannot."""

_SEARCH: Final = f"""{RESOLVE}
at "$1"
[ -d "$p" ] || exit {entries.NOT_THERE}
find "$p" -mindepth 1 -name "$2" -exec sh -c 'printf "%s\\0" "$@"' sh {{}} + 2>/dev/null
exit 0
"""


async def find_in_files(visit: Visit, call: Call) -> Response:
    """`GET /files/find`: the lines that have a text in them, of all files below a path."""
    path = read_path(call)
    done = await run_script(visit, _FIND, path, _read_pattern(call))
    check(done, path)
    return JSONResponse(await in_thread(_show_matches, done.output))


def _show_matches(listed: bytes) -> list[Json]:
    """A record is `path`, zero, `number:line`; a path may have new lines in it, a line has none."""
    found: list[Json] = []
    place = 0
    while (zero := listed.find(b"\0", place)) >= 0:
        end = listed.find(b"\n", zero)
        end = len(listed) if end < 0 else end
        number, _, content = listed[zero + 1 : end].partition(b":")
        if number.isdigit() and len(number) <= _DIGITS_MAX:
            path = entries.normalise(listed[place:zero].decode(errors="replace"))
            found.append({"file": path, "line": int(number), "content": content.decode(errors="replace")})
        place = end + 1
    return found


async def search_files(visit: Visit, call: Call) -> Response:
    """`GET /files/search`: what has a name of a shell's pattern, below a directory."""
    path = read_path(call)
    done = await run_script(visit, _SEARCH, path, _read_pattern(call))
    check(done, path)
    names = [entries.normalise(name.decode(errors="replace")) for name in done.output.split(b"\0") if name]
    return JSONResponse({"files": sorted(names)})


async def replace_in_files(visit: Visit, call: Call) -> Response:
    """`POST /files/replace`: a text by another, in each of some files."""
    files: Any = call.body.get("files")
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files) or len(files) > FILES_MAX:
        raise ApiError(400, f"files must be a list of at most {FILES_MAX} paths")
    pattern, value = call.text("pattern").encode(), call.body.get("newValue")
    if not isinstance(value, str):
        raise ApiError(400, "newValue must be a text")
    return JSONResponse([await _replace(visit, file, pattern, value.encode()) for file in files])


async def _replace(visit: Visit, file: str, pattern: bytes, value: bytes) -> Json:
    try:
        path = check_path(file)
        async with visit.turn:
            content = await _read(visit, path)
            count = content.count(pattern)
            if len(content) + count * (len(value) - len(pattern)) > FILE_BYTES_MAX:
                raise ApiError(413, f"{path} would have over {FILE_BYTES_MAX} bytes; use sed in the sandbox")
            if count:
                target = await Target(visit, path).open()
                try:
                    await target.write(content.replace(pattern, value))
                    await target.finish()
                finally:
                    target.close()
    except ApiError as error:
        return {"file": file, "success": False, "error": error.message}
    return {"file": file, "success": True}


async def _read(visit: Visit, path: str) -> bytes:
    content = bytearray()
    async with contextlib.aclosing(await open_content(visit, path)) as parts:
        async for part in parts:
            content += part
            if len(content) > FILE_BYTES_MAX:
                raise ApiError(413, f"{path} has over {FILE_BYTES_MAX} bytes; use sed in the sandbox")
    return bytes(content)


def _read_pattern(call: Call) -> str:
    pattern = call.request.query_params.get("pattern", "")
    if not pattern or "\0" in pattern or len(pattern.encode(errors="replace")) > _PATTERN_BYTES_MAX:
        raise ApiError(400, f"pattern must have 1 to {_PATTERN_BYTES_MAX} bytes, none of them zero")
    return pattern
