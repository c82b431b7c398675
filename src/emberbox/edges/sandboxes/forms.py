"""The parts of a multipart form, as they come: nothing of them is kept here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from emberbox.edges.sandboxes.errors import ApiError

FORM_TYPE: Final = "multipart/form-data"
_HEAD_BYTES_MAX: Final = 16 << 10

Told = tuple[str, bytes]


async def read_parts(content_type: str, body: AsyncIterator[bytes]) -> AsyncIterator[Told]:
    """Yield for each part ("field", its name), ("file", its file's name), ("data", a piece) for each, and ("end", b"").

    Raises:
        ApiError: the form is malformed.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise ApiError(400, "the form has no boundary")
    events, head = _Events(boundary), _Head()
    async for data in body:
        for kind, piece in events.feed(data):
            match kind:
                case "part_begin":
                    head = _Head()
                case "header_field" | "header_value" | "header_end":
                    head.take(kind, piece)
                case "headers_finished":
                    yield "field", head.name
                    yield "file", head.file_name
                case "part_data":
                    yield "data", piece
                case "part_end":
                    yield "end", b""
    if not events.is_whole:
        raise ApiError(400, "the form is cut short")


class _Head:
    """The headers of one part."""

    def __init__(self) -> None:
        self._field, self._value, self.name, self.file_name = b"", b"", b"", b""
        self._bytes = 0

    def take(self, kind: str, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes > _HEAD_BYTES_MAX:
            raise ApiError(400, "the head of a part is too long")
        if kind == "header_field":
            self._field += piece
        elif kind == "header_value":
            self._value += piece
        else:
            if self._field.lower() == b"content-disposition":
                _, options = parse_options_header(self._value)
                self.name, self.file_name = options.get(b"name", b""), options.get(b"filename", b"")
            self._field, self._value = b"", b""


class _Events:
    """The parser's calls, as a list to be read."""

    def __init__(self, boundary: bytes) -> None:
        self._found: list[Told] = []
        self.is_whole = False
        calls: dict[str, Any] = {  # Any: a TypedDict of callbacks of two kinds
            f"on_{name}": self._mark(name) for name in ("part_begin", "part_end", "header_end", "headers_finished")
        }
        calls |= {f"on_{name}": self._piece(name) for name in ("part_data", "header_field", "header_value")}
        calls["on_end"] = self._end
        self._parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]  # see above

    def feed(self, data: bytes) -> list[Told]:
        self._found = []
        try:
            self._parser.write(bytes(data))
        except FormParserError:
            raise ApiError(400, "the form is malformed") from None
        return self._found

    def _end(self) -> None:
        self.is_whole = True

    def _mark(self, name: str) -> Callable[[], None]:
        return lambda: self._found.append((name, b""))

    def _piece(self, name: str) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: self._found.append((name, data[start:end]))
