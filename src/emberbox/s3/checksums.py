"""Checksums of objects: S3's `x-amz-checksum-*`, Content-MD5 and x-amz-content-sha256.

An upload is hashed once while it is written; what the client stated is compared when the last byte has come.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from anycrc import Model

from emberbox.s3.errors import S3Error

HEADER: Final = "x-amz-checksum-"
DEFAULT: Final = "CRC64NVME"
"""What S3 computes where the client states no checksum."""


class Hash(Protocol):
    """A running hash."""

    def update(self, data: bytes, /) -> Any:
        """Add bytes; what hashlib returns counts for nothing."""
        ...

    def digest(self) -> bytes:
        """Return the hash of all bytes so far."""
        ...


_CRCS: Final = {"CRC32": (Model("CRC32"), 4), "CRC32C": (Model("CRC32C"), 4), "CRC64NVME": (Model("CRC64-NVME"), 8)}


class _Crc:
    def __init__(self, name: str) -> None:
        self._model, self._size = _CRCS[name]
        self._value = self._model.calc(b"")

    def update(self, data: bytes) -> None:
        self._value = self._model.calc(data, self._value)

    def digest(self) -> bytes:
        return int(self._value).to_bytes(self._size, "big")


_ALGORITHMS: Final[Mapping[str, Callable[[], Hash]]] = {
    "CRC32": lambda: _Crc("CRC32"),
    "CRC32C": lambda: _Crc("CRC32C"),
    "CRC64NVME": lambda: _Crc("CRC64NVME"),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
    "SHA512": hashlib.sha512,
    "MD5": lambda: hashlib.md5(usedforsecurity=False),
}
ALGORITHMS: Final = tuple(_ALGORITHMS)
LINEAR: Final = frozenset(_CRCS)
"""Those of which the checksum of a whole follows from those of its parts."""


def new_hash(algorithm: str) -> Hash:
    """Start a hash.

    Raises:
        S3Error: S3 has no such algorithm.
    """
    if algorithm not in _ALGORITHMS:
        raise S3Error("InvalidRequest", f"Checksum algorithm provided is unsupported: {algorithm}")
    return _ALGORITHMS[algorithm]()


def encode(digest: bytes) -> str:
    """Return a digest as headers have it."""
    return base64.b64encode(digest).decode()


def member(algorithm: str) -> str:
    """Return the name of an algorithm's member in the service model."""
    return f"Checksum{algorithm}"


def combine(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """Return the checksum of a whole (FULL_OBJECT) from its parts' checksums and sizes."""
    model, size = _CRCS[algorithm]
    total = model.calc(b"")
    for text, length in parts:
        total = model.combine(total, int.from_bytes(base64.b64decode(text), "big"), length)
    return encode(int(total).to_bytes(size, "big"))


def compose(algorithm: str, parts: Sequence[str]) -> str:
    """Return the checksum of a list of parts (COMPOSITE): the checksum of their checksums, and how many they are."""
    running = new_hash(algorithm)
    for text in parts:
        running.update(base64.b64decode(text))
    return f"{encode(running.digest())}-{len(parts)}"


class Digests:
    """The hashes of one body, and what they are held against.

    Args:
        headers: of the request.
        payload_hash: the hexadecimal SHA-256 that the signature covers, None where it covers none.
        etag: compute the MD5 that is the object's ETag.
        also: a checksum to compute whatever the client states; None for none.

    Attributes:
        algorithm: of the checksum that the client states, None where it states none.
        size: bytes so far.

    Raises:
        S3Error: what the client states is malformed.
    """

    def __init__(
        self, headers: Mapping[str, str], payload_hash: str | None, *, etag: bool = False, also: str | None = None
    ) -> None:
        self._payload_hash = payload_hash
        self._md5 = _content_md5(headers)
        self._stated, self._trailer = stated_checksum(headers)
        self.algorithm = (self._stated or ("", ""))[0] or self._trailer
        self.size = 0
        wanted = {name for name in (self.algorithm, also) if name}
        if payload_hash is not None:
            wanted.add("SHA256")
        if etag or self._md5 is not None:
            wanted.add("MD5")
        self._running = {name: new_hash(name) for name in sorted(wanted)}

    def update(self, data: bytes) -> None:
        """Add bytes of the body."""
        self.size += len(data)
        for running in self._running.values():
            running.update(data)

    def check(self, trailers: Mapping[str, str]) -> None:
        """Compare with what the client stated; called when the body is complete.

        Raises:
            S3Error: something differs.
        """
        self._digests = {name: running.digest() for name, running in self._running.items()}
        if self._payload_hash is not None and self._digests["SHA256"].hex() != self._payload_hash:
            raise S3Error("XAmzContentSHA256Mismatch")
        if self._md5 is not None and self._digests["MD5"] != self._md5:
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")
        stated = self._stated
        if self._trailer is not None:
            value = trailers.get(HEADER + self._trailer.lower())
            if value is None:
                raise S3Error("InvalidRequest", f"The trailer {HEADER}{self._trailer.lower()} is missing.")
            stated = (self._trailer, value)
        if stated is not None and encode(self._digests[stated[0]]) != stated[1]:
            _check_form(*stated)
            raise S3Error("BadDigest", f"The {stated[0]} you specified did not match the calculated checksum.")

    @property
    def etag(self) -> str:
        """The MD5 in hexadecimal, without quotes; after `check`."""
        return self._digests["MD5"].hex()

    def checksum(self, algorithm: str) -> str:
        """The value of a checksum that was asked for; after `check`."""
        return encode(self._digests[algorithm])


def stated_checksum(headers: Mapping[str, str]) -> tuple[tuple[str, str] | None, str | None]:
    """Return the checksum that the headers state, by algorithm and value, and the algorithm of the one to follow.

    Raises:
        S3Error: there are several, or S3 does not know it.
    """
    names = {HEADER + name.lower(): name for name in ALGORITHMS}
    stated = [(names[name], value.strip()) for name, value in headers.items() if name in names]
    trailer = headers.get("x-amz-trailer", "").strip().lower() or None
    if len(stated) + (trailer is not None) > 1:
        raise S3Error(
            "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
        )
    if trailer is not None and trailer not in names:
        raise S3Error("InvalidRequest", f"The trailer {trailer} is not supported.")
    wanted = headers.get("x-amz-sdk-checksum-algorithm", "").upper()
    if wanted and not stated and trailer is None:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )
    for algorithm, value in stated:
        _check_form(algorithm, value)
    return (stated[0] if stated else None), (names[trailer] if trailer else None)


def _check_form(algorithm: str, value: str) -> None:
    try:
        size = len(base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        size = -1
    if size != len(new_hash(algorithm).digest()):
        raise S3Error("InvalidRequest", f"Value for {HEADER}{algorithm.lower()} header is invalid.")


def _content_md5(headers: Mapping[str, str]) -> bytes | None:
    text = headers.get("content-md5")
    if text is None:
        return None
    try:
        found = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise S3Error("InvalidDigest") from None
    if len(found) != 16:
        raise S3Error("InvalidDigest")
    return found
