"""Contents of files: several in one form, in both directions. They pass through as they come, whatever their size."""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import JSONResponse, Response, StreamingResponse

from emberbox.edges.daytona import errors
from emberbox.edges.sandboxes.call import Call
from emberbox.edges.sandboxes.contents import Target, open_content, read_file_path
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.forms import FORM_TYPE, read_parts
from emberbox.edges.sandboxes.visit import Visit
from emberbox.model.errors import EmberboxError

FILES_MAX: Final = 1000
_PATH_BYTES_MAX: Final = 4095
_FIELD: Final = re.compile(rb"files\[([0-9]{1,6})\]\.(path|file)")
_CODES: Final = {
    400: errors.INVALID_FILE_PATH,
    403: errors.FILE_ACCESS_DENIED,
    404: errors.FILE_NOT_FOUND,
    500: errors.FILE_READ_FAILED,
}


# --- out of the sandbox


async def download(visit: Visit, call: Call) -> Response:
    """`GET /files/download`."""
    content = await _open(visit, call.request.query_params.get("path", ""))
    return StreamingResponse(content, media_type="application/octet-stream")


async def download_all(visit: Visit, call: Call) -> Response:
    """`POST /files/bulk-download`: a form, with the error in the place of each file that cannot be read."""
    paths: Any = call.body.get("paths")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ApiError(400, "paths must be a list of texts that are not empty")
    if len(paths) > FILES_MAX:
        raise ApiError(400, f"paths must have at most {FILES_MAX}; ask for more at another time")
    await visit.door.wake(visit.sandbox)
    boundary = uuid.uuid4().hex
    return StreamingResponse(_write_form(visit, paths, boundary), media_type=f"{FORM_TYPE}; boundary={boundary}")


async def _write_form(visit: Visit, paths: list[str], boundary: str) -> AsyncIterator[bytes]:
    """What breaks off within a file breaks the answer off, so that it shows."""
    for path in paths:
        try:
            content = await _open(visit, path)
        except EmberboxError as error:
            shown = errors.show_error(_with_code(errors.translate(error)), errors.DAEMON)
            yield _head("error", path, boundary, "application/json") + json.dumps(shown).encode()
        else:
            yield _head("file", path, boundary, "application/octet-stream")
            async with contextlib.aclosing(content) as parts:
                async for part in parts:
                    yield part
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _head(kind: str, path: str, boundary: str, media_type: str) -> bytes:
    """A file is known by the path that was asked for; RFC 6266 has a form for those that are not plain ASCII."""
    plain = "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\' else "_"
        for character in path
    )
    name = f'filename="{plain}"'
    if plain != path:
        name += f"; filename*=UTF-8''{quote(path, safe='/')}"
    disposition = f'Content-Disposition: form-data; name="{kind}"; {name}'
    return f"--{boundary}\r\n{disposition}\r\nContent-Type: {media_type}\r\n\r\n".encode()


async def _open(visit: Visit, path: str) -> AsyncGenerator[bytes]:
    try:
        return await open_content(visit, read_file_path(path))
    except ApiError as error:
        raise _with_code(error) from None


def _with_code(error: ApiError) -> ApiError:
    return ApiError(error.status, error.message, error.code or _CODES.get(error.status, ""))


# --- into the sandbox


async def upload(visit: Visit, call: Call) -> Response:
    """`POST /files/upload-v2`: the one file of a form, at the path of the query."""
    path = call.request.query_params.get("path", "")
    written = await _read_form(visit, call, path)
    return JSONResponse({"path": written[0]})


async def upload_all(visit: Visit, call: Call) -> Response:
    """`POST /files/bulk-upload`: `files[n].path` and `files[n].file` for each; directories above them are made."""
    try:
        written = await _read_form(visit, call, "")
    except EmberboxError as error:
        told = _with_code(errors.translate(error))
        shown = errors.show_error(told, errors.DAEMON)
        return JSONResponse({**shown, "errors": [told.message]}, told.status)
    return JSONResponse({"files": [{"path": path} for path in written]})


async def _read_form(visit: Visit, call: Call, asked: str) -> list[str]:
    """Write the files of a form, and return their paths."""
    content_type = call.request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != FORM_TYPE:
        raise ApiError(415, f"files are uploaded as {FORM_TYPE}")
    form = _Form(visit, asked)
    try:
        async for kind, data in read_parts(content_type, call.request.stream()):
            await form.take(kind, data)
    finally:
        form.close()
    if not form.written:
        raise ApiError(400, "the form has no file")
    return form.written


class _Form:
    """A form that is being read.

    Attributes:
        written: the paths of the files that have come whole.

    Args:
        visit: where its files go.
        asked: the path of its only file; empty where the form says that.
    """

    def __init__(self, visit: Visit, asked: str) -> None:
        self.written: list[str] = []
        self._visit = visit
        self._asked = asked
        self._paths: dict[bytes, bytes] = {}
        self._number = b""
        self._is_path = False
        self._target: Target | None = None

    async def take(self, kind: str, data: bytes) -> None:
        """Take what the form tells next."""
        match kind:
            case "field":
                found = _FIELD.fullmatch(data)
                self._number, self._is_path = (found[1], found[2] == b"path") if found else (b"", False)
            case "file" if data and not self._is_path:
                self._target = await Target(self._visit, self._find_path(data)).open()
            case "data" if self._target is not None:
                await self._target.write(data)
            case "data" if self._is_path:
                self._add_to_path(data)
            case "end" if self._target is not None:
                self.written.append(await self._target.finish())
                self._target = None

    def _find_path(self, file_name: bytes) -> str:
        if len(self.written) >= FILES_MAX:
            raise ApiError(400, f"a form has at most {FILES_MAX} files; upload more in another")
        told = self._paths.pop(self._number, file_name)
        return read_file_path(self._asked or told.decode(errors="replace"))

    def _add_to_path(self, data: bytes) -> None:
        """All paths may come before all files."""
        path = self._paths.get(self._number, b"") + data
        if len(path) > _PATH_BYTES_MAX or len(self._paths) > FILES_MAX:
            raise ApiError(400, f"a form has at most {FILES_MAX} paths of {_PATH_BYTES_MAX} bytes")
        self._paths[self._number] = path

    def close(self) -> None:
        """Let go of a file that did not come whole."""
        if self._target is not None:
            self._target.close()
