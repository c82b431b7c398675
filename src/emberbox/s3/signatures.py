"""Who signed a request: Signature Version 4 and 2, in the header and in the query.

What is signed is made by botocore's own signers from the request as it came; headers that a presigned URL carries in
its query (`x-amz-acl=…`) are headers to everything that follows.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from botocore.auth import HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emberbox.model.iam.access import Credential
from emberbox.s3.chunks import ChunkSigner
from emberbox.s3.errors import S3Error
from emberbox.s3.http import Request

ALGORITHM: Final = "AWS4-HMAC-SHA256"
MAX_SKEW: Final = timedelta(minutes=15)
MAX_EXPIRES_S: Final = 7 * 24 * 3600
SIGNED_BY_V2: Final = frozenset(HmacV1Auth.QSAOfInterest)
UNSIGNED: Final = "UNSIGNED-PAYLOAD"

_STREAMING: Final = {  # x-amz-content-sha256: (chunks are signed, trailers follow)
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (True, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (True, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (False, True),
}
_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_HOISTED: Final = ("content-md5", "content-type")
_PARAMETERS: Final = frozenset(
    f"x-amz-{name}" for name in ("algorithm", "credential", "date", "expires", "signedheaders", "signature")
)
_QUERY_FIELDS: Final = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")

FindCredential = Callable[[str, str | None], Credential | None]
"""Finds a credential by its access key id and, for temporary ones, the session token that came along."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature says.

    Attributes:
        credential: who signed.
        headers: of the request, with those from the query.
        version: of the signature: 4 or 2.
        payload_hash: the hexadecimal SHA-256 of the body, None where it is not signed.
        is_chunked: the body is in AWS's chunks.
        chunk_signer: checks their signatures, where they have any.
        has_trailer: trailers follow the chunks.
    """

    credential: Credential
    headers: Mapping[str, str]
    version: int
    payload_hash: str | None = None
    is_chunked: bool = False
    chunk_signer: ChunkSigner | None = None
    has_trailer: bool = False


@dataclass(frozen=True, slots=True)
class _Claim:
    """A Signature Version 4 as the client states it."""

    access_key_id: str
    scope: tuple[str, str, str]  # date, region, service
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    token: str | None
    payload: str
    is_presigned: bool


class _Verifier(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer over exactly the headers that the client signed."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers

    def payload(self, request: Any) -> Any:
        return request.context["payload"]


class _VerifierV2(HmacV1Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer for the date that the client states."""

    def __init__(self, credentials: Any, date: str) -> None:
        super().__init__(credentials)
        self._date = date

    def _get_date(self) -> str:
        return self._date


def authenticate(request: Request, resource: str, find: FindCredential, now: datetime) -> Signed:
    """Find out who signed a request.

    Args:
        request: its head; the body is checked when it is read.
        resource: the raw path with the bucket, however the bucket was named (for Version 2).
        find: finds a credential.
        now: the present, aware of its time zone.

    Raises:
        S3Error: it is not signed, or not by a key or at a time that counts.
    """
    query = dict(request.query_pairs())
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if authorization.startswith("AWS "):
            return _authenticate_v2(request, resource, find, now, _header_v2(request, authorization, now))
        return _authenticate_v4(request, find, now, _read_header(request, authorization))
    if any(key.lower() == "x-amz-algorithm" for key in query):
        return _authenticate_v4(request, find, now, _read_query(query, now))
    if "AWSAccessKeyId" in query:
        return _authenticate_v2(request, resource, find, now, _query_v2(query, now))
    raise S3Error("AccessDenied")


def find_credential(find: FindCredential, key_id: str, token: str | None, now: datetime) -> Credential:
    """Return a credential that counts now.

    Raises:
        S3Error: it does not.
    """
    credential = find(key_id, token)
    if credential is None:
        if token is not None:
            raise S3Error("InvalidToken")
        raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=key_id[:128])
    if credential.expires_at is not None and credential.expires_at <= now:
        raise S3Error("ExpiredToken")
    return credential


def signing_key(secret: str, scope: tuple[str, str, str]) -> bytes:
    """Return the key that a Version 4 signature of a date, region and service is made with."""
    key = f"AWS4{secret}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def same(left: str, right: str) -> bool:
    """Compare without telling how far two texts agree."""
    return hmac.compare_digest(left.encode(), right.encode())


def read_scope(text: str, code: str) -> tuple[str, tuple[str, str, str]]:
    """Take `KEY/DATE/REGION/s3/aws4_request` apart.

    Raises:
        S3Error: it has another form; with the code that is given.
    """
    parts = text.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise S3Error(code, "The credential must be of the form KEY/YYYYMMDD/REGION/s3/aws4_request.")
    if parts[3] in ("s3express", "s3-object-lambda", "s3-outposts"):
        raise S3Error("NotImplemented", f"{parts[3]} is not implemented.")
    if parts[3] != "s3":
        raise S3Error(code, f"The credential is for the service {parts[3][:32]}; it must be for s3.")
    return parts[0], (parts[1], parts[2], parts[3])


# --- Version 4


def _read_header(request: Request, authorization: str) -> _Claim:
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise S3Error("InvalidRequest", f"The authorization mechanism is not supported. Use {ALGORITHM}.")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if not all(fields.get(name) for name in ("Credential", "SignedHeaders", "Signature")):
        raise S3Error("AuthorizationHeaderMalformed")
    key_id, scope = read_scope(fields["Credential"], "AuthorizationHeaderMalformed")
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    date = request.headers.get("x-amz-date") or _basic_date(request.headers.get("date", ""))
    names = tuple(fields["SignedHeaders"].split(";"))
    token = request.headers.get("x-amz-security-token")
    return _Claim(key_id, scope, names, fields["Signature"], date, token, payload, is_presigned=False)


def _basic_date(text: str) -> str:
    try:
        return f"{parsedate_to_datetime(text).astimezone(UTC):{_DATE_FORMAT}}"
    except (ValueError, OverflowError):
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None


def _read_query(query: Mapping[str, str], now: datetime) -> _Claim:
    code = "AuthorizationQueryParametersError"
    if missing := [name for name in _QUERY_FIELDS if not query.get(f"X-Amz-{name}")]:
        raise S3Error(code, f"Query-string authentication version 4 requires X-Amz-{missing[0]}.")
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error(code, f"X-Amz-Algorithm only supports {ALGORITHM}.")
    expires = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= MAX_EXPIRES_S:
        raise S3Error(code, f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds.")
    key_id, scope = read_scope(query["X-Amz-Credential"], code)
    signed = _read_date(query["X-Amz-Date"])
    if now > signed + timedelta(seconds=int(expires)):
        raise S3Error("AccessDenied", "Request has expired")
    names = tuple(query["X-Amz-SignedHeaders"].split(";"))
    lowered = {key.lower(): value for key, value in query.items()}
    payload = lowered.get("x-amz-content-sha256", UNSIGNED)
    token = lowered.get("x-amz-security-token")
    return _Claim(
        key_id, scope, names, query["X-Amz-Signature"], query["X-Amz-Date"], token, payload, is_presigned=True
    )


def _read_date(text: str) -> datetime:
    try:
        return datetime.strptime(text, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise S3Error("AccessDenied", "X-Amz-Date must be in the form of YYYYMMDDTHHMMSSZ.") from None


def _authenticate_v4(request: Request, find: FindCredential, now: datetime, claim: _Claim) -> Signed:
    signed = _read_date(claim.date)
    if claim.scope[0] != claim.date[:8]:
        raise S3Error("SignatureDoesNotMatch", "The date of the credential is not that of the request.")
    if signed > now + MAX_SKEW or (not claim.is_presigned and signed < now - MAX_SKEW):
        raise S3Error("RequestTimeTooSkewed", RequestTime=claim.date, ServerTime=f"{now:{_DATE_FORMAT}}")
    _check_signed_headers(claim, request)
    credential = find_credential(find, claim.access_key_id, claim.token, now)
    key = signing_key(credential.secret_access_key, claim.scope)
    expected = hmac.new(key, _string_to_sign(claim, request).encode(), hashlib.sha256).hexdigest()
    if not same(expected, claim.signature):
        raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=claim.access_key_id[:128])
    headers = request.headers
    payload = claim.payload
    if claim.is_presigned:
        headers = headers | _hoisted(request)
        payload = headers.get("x-amz-content-sha256", payload)
    if payload in _STREAMING:
        is_signed, has_trailer = _STREAMING[payload]
        scope = "/".join((*claim.scope, "aws4_request"))
        signer = ChunkSigner(key, claim.date, scope, claim.signature) if is_signed else None
        return Signed(credential, headers, 4, None, True, signer, has_trailer)
    if payload != UNSIGNED and not _HASH.fullmatch(payload):
        raise S3Error(
            "InvalidRequest",
            f"x-amz-content-sha256 must be {UNSIGNED}, {', '.join(_STREAMING)} or a valid sha256 value.",
        )
    return Signed(credential, headers, 4, None if payload == UNSIGNED else payload.lower())


def _check_signed_headers(claim: _Claim, request: Request) -> None:
    unsigned = [
        name
        for name in request.headers
        if (name == "host" or name.startswith("x-amz-")) and name not in claim.signed_headers
    ]
    if unsigned or "host" not in claim.signed_headers:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(unsigned or ["host"])[:512],
        )
    if not request.headers.keys() >= set(claim.signed_headers):
        raise S3Error("SignatureDoesNotMatch")


def _string_to_sign(claim: _Claim, request: Request) -> str:
    path = quote(unquote_to_bytes(request.raw_path), safe="/-_.~")
    pairs = [pair for pair in request.query_pairs() if not claim.is_presigned or pair[0] != "X-Amz-Signature"]
    signer = _Verifier(Credentials("", ""), claim.scope[2], claim.scope[1])
    rebuilt = AWSRequest(method=request.method, url=f"http://host{path}", params=pairs)
    for name in claim.signed_headers:
        rebuilt.headers[name] = request.headers[name]
    rebuilt.context = {"timestamp": claim.date, "payload": claim.payload}
    return str(signer.string_to_sign(rebuilt, signer.canonical_request(rebuilt)))


def _hoisted(request: Request) -> dict[str, str]:
    """Return the headers that stand in the query of a presigned URL; they are signed as all of it is."""
    found = {name.lower(): value for name, value in request.query_pairs()}
    return {name: value for name, value in found.items() if name.startswith("x-amz-") and name not in _PARAMETERS}


# --- Version 2


def _header_v2(request: Request, authorization: str, now: datetime) -> tuple[str, str, str]:
    """Return key id, signature and the date that is signed."""
    key_id, colon, signature = authorization[4:].strip().partition(":")
    if not colon:
        raise S3Error("InvalidArgument", "AWS authorization header is invalid. Expected AwsAccessKeyId:signature")
    stated = request.headers.get("x-amz-date") or request.headers.get("date", "")
    try:
        signed = parsedate_to_datetime(stated).astimezone(UTC)
    except (ValueError, OverflowError):
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
    if abs(now - signed) > MAX_SKEW:
        raise S3Error("RequestTimeTooSkewed", RequestTime=stated, ServerTime=f"{now:{_DATE_FORMAT}}")
    return key_id, signature, "" if "x-amz-date" in request.headers else request.headers["date"]


def _query_v2(query: Mapping[str, str], now: datetime) -> tuple[str, str, str]:
    expires = query.get("Expires", "")
    if not re.fullmatch(r"[0-9]{1,12}", expires) or not query.get("Signature"):
        raise S3Error("AccessDenied", "Query-string authentication requires the Signature, Expires and AWSAccessKeyId "
                      "parameters")  # fmt: skip
    if int(expires) < now.timestamp():
        raise S3Error("AccessDenied", "Request has expired", Expires=expires)
    return query["AWSAccessKeyId"], query["Signature"], expires


def _authenticate_v2(
    request: Request, resource: str, find: FindCredential, now: datetime, claim: tuple[str, str, str]
) -> Signed:
    key_id, signature, date = claim
    pairs = {name.lower(): value for name, value in request.query_pairs()}
    hoisted = {name: value for name, value in pairs.items() if name.startswith("x-amz-") or name in _HOISTED}
    headers = request.headers | hoisted
    credential = find_credential(find, key_id, headers.get("x-amz-security-token"), now)
    rebuilt = AWSRequest(method=request.method, url=f"http://host{resource}")
    for name, value in headers.items():
        if name.startswith("x-amz-") or name in _HOISTED:
            rebuilt.headers[name] = value
    signer = _VerifierV2(Credentials(key_id, credential.secret_access_key), date)
    split = urlsplit(f"http://host/?{request.query}")

    def is_signed(place: str) -> bool:
        text = signer.canonical_string(request.method, split, rebuilt.headers, auth_path=place)
        expected = hmac.new(credential.secret_access_key.encode(), text.encode(), hashlib.sha1).digest()
        return same(b64encode(expected).decode(), signature)

    is_bucket = resource.count("/") == 1 and resource != "/"  # botocore signs /bucket/ and asks for /bucket
    if not is_signed(resource) and not (is_bucket and is_signed(f"{resource}/")):
        raise S3Error("SignatureDoesNotMatch", AWSAccessKeyId=key_id[:128])
    return Signed(credential, headers, 2, is_chunked=headers.get("content-encoding", "").startswith("aws-chunked"))
