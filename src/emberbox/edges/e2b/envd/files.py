"""Contents of files: `GET /files` and `POST /files`. They pass through as they come, whatever their size."""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from emberbox.edges.e2b.envd.connect import Json
from emberbox.edges.sandboxes import entries
from emberbox.edges.sandboxes.contents import Target, open_content, read_file_path
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.forms import FORM_TYPE, read_parts
from emberbox.edges.sandboxes.visit import Visit

_GZIP_WINDOW: Final = 31
_PIECE: Final = 1 << 18
# --- out of the sandbox


async def get_file(visit: Visit, request: Request) -> Response:
    """Return a file's content.

    Raises:
        ApiError: there is none, or it cannot be read.
    """
    path = read_file_path(request.query_params.get("path", ""))
    content = await open_content(visit, path)
    headers = {"content-disposition": f'inline; filename="{_quotable(path)}"'}
    return StreamingResponse(content, media_type="application/octet-stream", headers=headers)


# --- into the sandbox


async def post_files(visit: Visit, request: Request) -> Response:
    """Write files: those of a form, or the one that is the body. Directories above them are made.

    Raises:
        ApiError: something is malformed, or cannot be written.
    """
    content_type = request.headers.get("content-type", "")
    body = _unpacked(request)
    asked = request.query_params.get("path", "")
    _refuse_metadata(request)
    if content_type.partition(";")[0].strip().lower() == FORM_TYPE:
        written = await _write_form(visit, content_type, body, asked)
    else:
        target = await Target(visit, read_file_path(asked)).open()
        written = [await target.fill(body)]
    return JSONResponse([_show(path) for path in written])


def _refuse_metadata(request: Request) -> None:
    if any(name.startswith("x-metadata-") for name in request.headers):
        raise ApiError(400, "metadata of files is not kept here; write it into a file of its own")


async def _write_form(visit: Visit, content_type: str, body: AsyncIterator[bytes], asked: str) -> list[str]:
    written: list[str] = []
    target: Target | None = None
    try:
        async for kind, data in read_parts(content_type, body):
            match kind:
                case "file":
                    path = asked or data.decode(errors="replace")
                    target = await Target(visit, read_file_path(path)).open()
                case "data" if target is not None:
                    await target.write(data)
                case "end" if target is not None:
                    written.append(await target.finish())
                    target = None
    finally:
        if target is not None:
            target.close()
    if not written:
        raise ApiError(400, "the form has no file")
    return written


async def _unpacked(request: Request) -> AsyncIterator[bytes]:
    """Yield the body, without the compression that it was sent with.

    Raises:
        ApiError: it is compressed in a way that is not known, or cut short.
    """
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise ApiError(415, f"content-encoding must be gzip, not {encoding}")
    if encoding == "identity":
        async for part in request.stream():
            yield part
        return
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        async for part in request.stream():
            left = part
            while left:
                yield unpacking.decompress(left, _PIECE)
                left = unpacking.unconsumed_tail
    except zlib.error as error:
        raise ApiError(400, f"the body is no gzip: {error}") from None
    if not unpacking.eof:
        raise ApiError(400, "the body is cut short")


def _quotable(path: str) -> str:
    name = posixpath.basename(path)
    return "".join(
        character if character.isascii() and character.isprintable() and character not in '"\\' else "_"
        for character in name
    )


def _show(path: str) -> Json:
    found = entries.normalise(path)
    return {"name": posixpath.basename(found), "type": "file", "path": found}
