"""Signature Version 4 of requests, as AWS documents it: canonical request, string to sign, derived key.

Of AWS's signer in botocore this is the part that a body in memory needs; the tests hold the two against each other.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests of one service.

    Attributes:
        access_key_id: who asks.
        secret_access_key: the secret.
        session_token: of temporary credentials, or empty.
        region: part of the signature's scope.
        service: the signing name, such as `lambda`.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    region: str
    service: str

    def sign(
        self,
        method: str,
        url: str,
        body_sha256: str,
        signed: Mapping[str, str] | None = None,
        moment: datetime | None = None,
    ) -> dict[str, str]:
        """Return the headers that make a request a signed one.

        Args:
            method: of the request.
            url: with its query, encoded as it is sent.
            body_sha256: hexadecimal, of the whole body.
            signed: further headers that the signature is to cover, by names in lower case; they are in the answer.
            moment: when; now when missing.
        """
        stamp = (moment or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        parts = urlsplit(url)
        headers = {**(signed or {}), "host": parts.netloc, "x-amz-content-sha256": body_sha256, "x-amz-date": stamp}
        if self.session_token:
            headers["x-amz-security-token"] = self.session_token
        names = ";".join(sorted(headers))
        path = parts.path or "/"
        canonical = "\n".join([
            method,
            path if self.service == "s3" else quote(path, safe="/" + _UNRESERVED),
            "&".join(map("=".join, sorted(pair.split("=", 1) for pair in parts.query.split("&") if pair))),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            body_sha256,
        ])  # fmt: skip
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        text = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(self._key(stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
        del headers["host"]
        credential = f"{self.access_key_id}/{scope}"
        headers["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
        return headers

    def _key(self, date: str) -> bytes:
        key = f"AWS4{self.secret_access_key}".encode()
        for part in (date, self.region, self.service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key
