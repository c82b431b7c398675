"""Which bucket and key a request names: in the path, or the bucket in the host name."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from emberbox.s3.errors import S3Error

KEY_BYTES_MAX: Final = 1024
_NAME: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_AWS_HOST: Final = re.compile(
    rf"(?P<bucket>{_NAME})\.s3(?:[.-](?:dualstack\.)?[a-z]{{2}}(?:-[a-z]+)+-\d)?\.amazonaws\.com"
)
_BUCKET: Final = re.compile(_NAME)
_ADDRESS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_UNUSABLE: Final = re.compile(r"\.\.|\.-|-\.|^xn--|^sthree-|-s3alias$|--ol-s3$|--x-s3$|--table-s3$|\.mrap$")


def is_bucket_name(name: str) -> bool:
    """Say whether a bucket may be called so ("Bucket naming rules")."""
    return bool(_BUCKET.fullmatch(name)) and not _ADDRESS.fullmatch(name) and not _UNUSABLE.search(name)


class Addressing:
    """Reads hosts and paths.

    Args:
        domain: names that end in it are buckets too, as `bucket.s3.<domain>` and `bucket.<domain>`.
    """

    def __init__(self, domain: str) -> None:
        domains = "|".join(re.escape(name) for name in sorted({domain, "localhost"}))
        self._hosts = (
            _AWS_HOST,
            re.compile(rf"(?P<bucket>{_NAME})\.s3(?:\.[a-z0-9-]+)?\.(?:{domains})"),
            re.compile(rf"(?P<bucket>{_NAME})\.(?:{domains})"),
        )
        self._plain = re.compile(rf"s3(?:\.[a-z0-9-]+)?\.(?:{domains})")

    def host_bucket(self, host: str) -> str | None:
        """Return the bucket that a Host header names, None where the path names it."""
        name = host.strip().lower()
        name = name.rpartition("]")[2] if name.startswith("[") else name.partition(":")[0]
        if self._plain.fullmatch(name):
            return None
        for pattern in self._hosts:
            if found := pattern.fullmatch(name):
                return found["bucket"]
        return None

    def place(self, host: str, raw_path: str) -> tuple[str, bytes]:
        """Return bucket and key; each is empty where there is none.

        Raises:
            S3Error: the key is no UTF-8, holds a NUL or is too long.
        """
        if not raw_path.startswith("/"):
            raise S3Error("InvalidURI")
        bucket = self.host_bucket(host)
        rest = raw_path[1:]
        if bucket is None:
            name, _, rest = rest.partition("/")
            bucket = _text(unquote_to_bytes(name))
        return bucket, read_key(unquote_to_bytes(rest))


def read_key(key: bytes) -> bytes:
    """Return a key as it is.

    Raises:
        S3Error: it cannot be one.
    """
    _text(key)
    if len(key) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", MaxSizeAllowed=str(KEY_BYTES_MAX), Size=str(len(key)))
    return key


def _text(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI") from None
    if "\0" in text:
        raise S3Error("InvalidURI")
    return text
