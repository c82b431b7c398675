"""One call of an operation, and what answers it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from botocore.model import OperationModel

from emberbox.model.iam.access import Credential
from emberbox.s3.checksums import DEFAULT, HEADER, Digests, stated_checksum
from emberbox.s3.chunks import ChunkedBody
from emberbox.s3.errors import S3Error
from emberbox.s3.files import NewFile
from emberbox.s3.http import Content, Request
from emberbox.s3.index import Bucket
from emberbox.s3.parse import DOCUMENT_BYTES_MAX
from emberbox.s3.serialise import http_date
from emberbox.s3.signatures import Signed

OBJECT_BYTES_MAX: Final = 5 << 30
"""What one PUT may hold ("Amazon S3 multipart upload limits")."""


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated, authorised request.

    Attributes:
        name: the operation's name.
        model: its model.
        bucket: the bucket, which is the caller's own.
        key: the key; empty where the operation is not about an object.
        parameters: what query and headers say, by their names in the model.
        signed: who signed, and how the body is to be read.
        request: the request itself.
        is_form: the body is a form's file, whose size nobody states.
        may: says whether the caller may do something else too: an action on a resource.
    """

    name: str
    model: OperationModel
    bucket: Bucket
    key: bytes
    parameters: Mapping[str, Any]
    signed: Signed
    request: Request
    may: Callable[[str, str], bool]
    is_form: bool = False

    @property
    def caller(self) -> Credential:
        """Who calls."""
        return self.signed.credential

    def header(self, name: str) -> str | None:
        """Return a header; those in the query of a presigned URL count."""
        return self.signed.headers.get(name)

    def request_text(self, name: str) -> str:
        """Return a parameter as headers have it."""
        value = self.parameters[name]
        return http_date(value) if isinstance(value, datetime) else str(value)

    def write_body(self, new: NewFile, also: str | None = None) -> Digests:
        """Write the body into a file, and check it.

        Args:
            new: the file.
            also: a checksum to compute whatever the client states; by default S3's own where it states none.

        Raises:
            S3Error: it is not what was stated, or too large.
        """
        stated, trailer = stated_checksum(self.signed.headers)
        if also is None and stated is None and trailer is None:
            also = DEFAULT
        digests = Digests(self.signed.headers, self.signed.payload_hash, etag=True, also=also)
        size = OBJECT_BYTES_MAX if self.is_form else self._stated_size()
        if size > OBJECT_BYTES_MAX:
            raise S3Error("EntityTooLarge", MaxSizeAllowed=str(OBJECT_BYTES_MAX), ProposedSize=str(size))
        for data in self._chunks(digests, size):
            new.write(data)
        return digests

    def read_body(self, *, checksums: bool = True) -> bytes:
        """Return the whole body, a document, after it was checked.

        Args:
            checksums: the headers' `x-amz-checksum-…` is the body's own.

        Raises:
            S3Error: it is not what was stated, or too large.
        """
        size = self._stated_size(default=0)
        if size > DOCUMENT_BYTES_MAX:
            raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=str(DOCUMENT_BYTES_MAX))
        headers = self.signed.headers
        if not checksums:
            headers = {name: value for name, value in headers.items() if not name.startswith(HEADER)}
        return b"".join(self._chunks(Digests(headers, self.signed.payload_hash), size))

    def _stated_size(self, default: int | None = None) -> int:
        name = "x-amz-decoded-content-length" if self.signed.is_chunked else "content-length"
        text = self.request.headers.get(name, "" if default is None else str(default))
        if not text.isascii() or not text.isdecimal():
            raise S3Error("MissingContentLength")
        return int(text[:20])

    def _chunks(self, digests: Digests, size: int) -> Iterator[bytes]:
        source: Iterable[bytes] = self.request.body()
        trailers: Mapping[str, str] = {}
        if self.signed.is_chunked:
            source = chunked = ChunkedBody(source, self.signed.chunk_signer, has_trailer=self.signed.has_trailer)
            trailers = chunked.trailers
        for data in source:
            if digests.size + len(data) > size:
                raise S3Error("IncompleteBody")
            digests.update(data)
            yield data
        if digests.size != size and not self.is_form:
            raise S3Error("IncompleteBody")
        digests.check(trailers)


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation answers.

    Attributes:
        members: of the output, by their names in the model.
        headers: further headers.
        status: where it is not the model's.
        text: the body as it stands, where the model does not make it.
        content: the files that the body comes from otherwise.
        length: the body's length, where it is not sent (HEAD).
    """

    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    text: bytes | None = None
    content: Content | None = None
    length: int | None = None


Handler = Callable[[Call], Reply]
"""Answers one operation, in the connection's thread."""


def owner(account_id: str) -> dict[str, str]:
    """Return who owns what an account has, in S3's form: a canonical user id."""
    return {"ID": hashlib.sha256(f"emberbox:{account_id}".encode()).hexdigest(), "DisplayName": account_id}


def now_ms() -> int:
    """Return the present, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def moment(milliseconds: int) -> datetime:
    """Return a stored time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
