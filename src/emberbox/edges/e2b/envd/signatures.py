"""Signed URLs of files: whoever has one may read or write that one file, without the access token.

`v1_` and the unpadded base64 of the SHA-256 of `path:operation:user:token`, and `:expiry` where there is one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

from emberbox.edges.sandboxes.errors import ApiError


def sign(path: str, operation: str, user: str, token: str, expires: str | None = None) -> str:
    """Return the signature.

    Args:
        path: of the file, as the URL has it.
        operation: `read` or `write`.
        user: whose rights count; empty for the image's user.
        token: the sandbox's access token.
        expires: seconds since 1970, in digits.
    """
    said = ":".join((path, operation, user, token) + (() if expires is None else (expires,)))
    return "v1_" + base64.b64encode(hashlib.sha256(said.encode()).digest()).rstrip(b"=").decode()


def check_signature(query: Mapping[str, str], operation: str, token: str) -> None:
    """Let a signed request pass.

    Raises:
        ApiError: the signature is wrong, or has expired.
    """
    expires = query.get("signature_expiration") or None
    wanted = sign(query.get("path", ""), operation, query.get("username", ""), token, expires)
    if not hmac.compare_digest(query.get("signature", "").encode(), wanted.encode()):
        raise ApiError(401, "the signature is wrong")
    if expires is not None and not (expires.isdigit() and int(expires) >= time.time()):
        raise ApiError(401, "the signature has expired")
