"""Bodies in AWS's chunks (`Content-Encoding: aws-chunked`), signed or not, with trailers or not.

    SIZE[;chunk-signature=SIGNATURE] CRLF DATA CRLF … 0[;chunk-signature=SIGNATURE] CRLF [NAME:VALUE CRLF …] CRLF

"Authenticating Requests: Using the Authorization Header (Transferring Payload in Multiple Chunks)".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from emberbox.s3.errors import S3Error

_LINE_BYTES_MAX: Final = 4096
_TRAILER_LINES_MAX: Final = 16
_EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()


@dataclass(slots=True)
class ChunkSigner:
    """What the signature of the next chunk follows from.

    Attributes:
        key: the signing key.
        date: of the request, as in X-Amz-Date.
        scope: of the credential.
        previous: the signature before.
    """

    key: bytes
    date: str
    scope: str
    previous: str

    def check_chunk(self, data_hash: str, signature: str) -> None:
        """Compare a chunk's signature.

        Raises:
            S3Error: it is another.
        """
        self._check("AWS4-HMAC-SHA256-PAYLOAD", f"{_EMPTY_HASH}\n{data_hash}", signature)

    def check_trailer(self, text: bytes, signature: str) -> None:
        """Compare the trailers' signature.

        Raises:
            S3Error: it is another.
        """
        self._check("AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(text).hexdigest(), signature)

    def _check(self, algorithm: str, rest: str, signature: str) -> None:
        text = f"{algorithm}\n{self.date}\n{self.scope}\n{self.previous}\n{rest}"
        expected = hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise S3Error("SignatureDoesNotMatch")
        self.previous = expected


class ChunkedBody:
    """Takes the chunks apart.

    Args:
        source: the body as it comes.
        signer: checks signatures; None where chunks have none.
        has_trailer: trailers are to come.

    Attributes:
        trailers: by their names in lower case; complete when all data was read.
    """

    def __init__(self, source: Iterable[bytes], signer: ChunkSigner | None, *, has_trailer: bool) -> None:
        self._source = iter(source)
        self._signer = signer
        self._has_trailer = has_trailer
        self._held = bytearray()
        self.trailers: dict[str, str] = {}

    def __iter__(self) -> Iterator[bytes]:
        """Yield the data.

        Raises:
            S3Error: IncompleteBody, or a signature is wrong.
        """
        while True:
            size, signature = self._head()
            running = hashlib.sha256()
            left = size
            while left:
                data = self._take(left)
                left -= len(data)
                if self._signer is not None:
                    running.update(data)
                yield data
            if self._signer is not None:
                self._signer.check_chunk(running.hexdigest(), signature)
            if size == 0:
                break
            if self._line():
                raise _broken()
        self._end()

    def _head(self) -> tuple[int, str]:
        size, _, extension = self._line().partition(b";")
        name, _, signature = extension.partition(b"=")
        if not size or len(size) > 12 or size.strip(b"0123456789abcdefABCDEF"):
            raise _broken()
        if self._signer is not None and name != b"chunk-signature":
            raise S3Error("SignatureDoesNotMatch")
        return int(size, 16), signature.decode("latin-1").strip()

    def _end(self) -> None:
        """Read the trailers, or the empty line that ends a body without any."""
        signed = b""
        signature = None
        for _ in range(_TRAILER_LINES_MAX):
            try:
                line = self._line()
            except S3Error:
                if self._held:
                    raise
                break  # nothing more: some clients leave the last line break out
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            name = name.strip().lower()
            if name == "x-amz-trailer-signature":
                signature = value.strip()
            else:
                signed += f"{name}:{value.strip()}\n".encode("latin-1")
                self.trailers[name] = value.strip()
        for data in self._source:
            self._held += data
            if self._held.strip(b"\r\n"):
                raise _broken()
        if self._signer is not None and self._has_trailer:
            self._signer.check_trailer(signed, signature or "")

    def _fill(self) -> None:
        data = next(self._source, None)
        if data is None:
            raise _broken()
        self._held += data

    def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            if len(self._held) > _LINE_BYTES_MAX:
                raise _broken()
            self._fill()
        line = bytes(self._held[:end])
        del self._held[: end + 2]
        return line

    def _take(self, most: int) -> bytes:
        if not self._held:
            self._fill()
        if len(self._held) <= most:
            data, self._held = bytes(self._held), bytearray()
        else:
            data = bytes(memoryview(self._held)[:most])
            del self._held[:most]
        return data


def _broken() -> S3Error:
    return S3Error("IncompleteBody", "The request body is not in the form of aws-chunked, or ends early.")
