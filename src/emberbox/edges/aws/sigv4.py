"""Signature Version 4: who signed a request, checked with botocore's own signer.

The request is rebuilt with the signed headers only and put through `botocore.auth.SigV4Auth`, so canonical
form, string to sign and key derivation are AWS's code and not ours. Both forms are read: the `Authorization`
header and the presigned query string. The codes and texts are those AWS sends.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emberbox.edges.aws.errors import AuthenticationError
from emberbox.edges.aws.http import HttpRequest
from emberbox.model.iam.access import Credential
from emberbox.spec.models import SERVICES, load_service

ALGORITHM: Final = "AWS4-HMAC-SHA256"
MAX_SKEW: Final = timedelta(minutes=5)
MAX_EXPIRES_S: Final = 7 * 24 * 3600
SIGNING_NAMES: Final = frozenset(load_service(name).signing_name for name in SERVICES)

# These services are one for all regions; SDKs that know so sign for this one wherever they are.
_GLOBAL_NAMES: Final = frozenset({"iam", "sts"})
_GLOBAL_REGION: Final = "us-east-1"

_DATE_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_DATE: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# Headers that change what a request means, and so must be covered by the signature when they are there.
_MUST_BE_SIGNED: Final = ("host", "x-amz-date", "x-amz-target", "x-amz-security-token")
_KEY_ID_MAX: Final = 128
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)
_INVALID_TOKEN: Final = "The security token included in the request is invalid."  # noqa: S105  # AWS's sentence
_EXPIRED_TOKEN: Final = "The security token included in the request is expired"  # noqa: S105  # AWS's sentence


CredentialSource = Callable[[str, str | None], Credential | None]
"""Finds a credential by its access key id and, for temporary ones, the session token that came along."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a good signature proves: the credential, and the signing name and region it was made for."""

    credential: Credential
    signing_name: str
    region: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """A signature as the client states it, before anything is checked."""

    access_key_id: str
    scope_date: str
    region: str
    signing_name: str
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    token: str | None
    expires_s: int | None  # None: not presigned


class _Verifier(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signer over exactly the headers the client signed, and over the body's known hash."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers

    def payload(self, request: Any) -> Any:
        return request.context["payload_hash"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What the head of a request states of its sender, and the credential that it names."""

    stated: _Claim
    credential: Credential


def read_claim(
    head: HttpRequest, credentials: CredentialSource, region: str, now: datetime, *, any_service: bool = False
) -> Claim:
    """Find out who a request says it is from, before its body is read.

    Args:
        head: the request; its body does not matter.
        credentials: finds a credential.
        region: the region that a signature must be made for.
        now: the present, aware of its time zone.
        any_service: it may be signed for a service that is not here; who asks says so in that service's protocol.

    Raises:
        AuthenticationError: the request is not signed, or not by a key, for a place or at a time that counts.
    """
    claim = _read_claim(head)
    _check_scope(claim, region, any_service)
    _check_time(claim, now)
    _check_signed_headers(claim, head)
    credential = credentials(claim.access_key_id, claim.token)
    if credential is None or not _same(claim.token or "", credential.session_token or ""):
        raise AuthenticationError(_INVALID_TOKEN, "UnrecognizedClientException")
    return Claim(claim, credential)


def verify(claim: Claim, request: HttpRequest, now: datetime) -> Identity:
    """Find out whether a whole request is from whom it says; the body's hash is part of the signature.

    Raises:
        AuthenticationError: it is not, or the credential has expired.
    """
    stated, credential = claim.stated, claim.credential
    if not _same(_expected_signature(stated, credential, request), stated.signature):
        raise AuthenticationError(_MISMATCH)
    if credential.expires_at is not None and credential.expires_at <= now:
        raise AuthenticationError(_EXPIRED_TOKEN, "ExpiredTokenException")
    return Identity(credential, stated.signing_name, stated.region)


def authenticate(request: HttpRequest, credentials: CredentialSource, region: str, now: datetime) -> Identity:
    """Do both with a request that is there already.

    Raises:
        AuthenticationError: see `read_claim` and `verify`.
    """
    return verify(read_claim(request, credentials, region, now), request, now)


def check_signing_name(identity: Identity, signing_name: str) -> None:
    """Refuse a signature that was made for another service than the one the request reached.

    Raises:
        AuthenticationError: it was.
    """
    if identity.signing_name != signing_name:
        raise AuthenticationError(f"Credential should be scoped to correct service: '{signing_name}'.")


def claimed_key_id(request: HttpRequest) -> str | None:
    """Return the access key id that a request names, whether or not it is its own; None when it names none."""
    try:
        return _read_claim(request).access_key_id[:_KEY_ID_MAX]
    except AuthenticationError:
        return None


def _read_claim(request: HttpRequest) -> _Claim:
    authorization = request.header("authorization")
    if authorization is not None:
        return _read_header(request, authorization)
    query = dict(request.query_pairs())
    if "X-Amz-Algorithm" in query or "X-Amz-Signature" in query:
        return _read_query(query)
    raise AuthenticationError("Missing Authentication Token", "MissingAuthenticationTokenException")


def _read_header(request: HttpRequest, authorization: str) -> _Claim:
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Authorization header requires the algorithm {ALGORITHM}.")
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _incomplete(f"Authorization header requires '{name}' parameter.")
    date = request.header("x-amz-date")
    if date is None:
        raise _incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
    return _claim(fields, date, request.header("x-amz-security-token"), None)


def _read_query(query: dict[str, str]) -> _Claim:
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not query.get(f"X-Amz-{name}"):
            raise _incomplete(f"AWS query-string parameters must include 'X-Amz-{name}'.")
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise _incomplete(f"X-Amz-Algorithm must be {ALGORITHM}.")
    expires = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= MAX_EXPIRES_S:
        raise _incomplete(f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds.")
    fields = {name: query[f"X-Amz-{name}"] for name in ("Credential", "SignedHeaders", "Signature")}
    return _claim(fields, query["X-Amz-Date"], query.get("X-Amz-Security-Token"), int(expires))


def _claim(fields: dict[str, str], date: str, token: str | None, expires_s: int | None) -> _Claim:
    scope = fields["Credential"].split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements: keyid/date/region/service/aws4_request."
        )
    if not _DATE.fullmatch(date):
        raise _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{date}'.")
    if not _SIGNATURE.fullmatch(fields["Signature"]):
        raise AuthenticationError(_MISMATCH)
    return _Claim(
        access_key_id=scope[0],
        scope_date=scope[1],
        region=scope[2],
        signing_name=scope[3],
        signed_headers=tuple(fields["SignedHeaders"].split(";")),
        signature=fields["Signature"],
        date=date,
        token=token,
        expires_s=expires_s,
    )


def _incomplete(text: str) -> AuthenticationError:
    return AuthenticationError(text, "IncompleteSignatureException")


def _check_scope(claim: _Claim, region: str, any_service: bool) -> None:
    is_global = claim.signing_name in _GLOBAL_NAMES and claim.region == _GLOBAL_REGION
    if claim.region != region and not is_global:
        raise AuthenticationError(f"Credential should be scoped to a valid region, not '{claim.region}'.")
    if not any_service and claim.signing_name not in SIGNING_NAMES:
        raise AuthenticationError("Credential should be scoped to correct service: 'lambda'.")
    if claim.scope_date != claim.date[:8]:
        raise AuthenticationError(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.scope_date}' != '{claim.date[:8]}', from '{claim.date}'."
        )


def _check_time(claim: _Claim, now: datetime) -> None:
    try:
        signed = datetime.strptime(claim.date, _DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise _incomplete(f"Date must be in ISO-8601 'basic format'. Got '{claim.date}'.") from error
    present = now.astimezone(UTC)
    if signed > present + MAX_SKEW:
        limit = f"{(present + MAX_SKEW):{_DATE_FORMAT}} ({present:{_DATE_FORMAT}} + 5 min.)"
        raise AuthenticationError(f"Signature not yet current: {claim.date} is still later than {limit}")
    lifetime = MAX_SKEW if claim.expires_s is None else timedelta(seconds=claim.expires_s)
    if present > signed + lifetime:
        age = "5 min." if claim.expires_s is None else f"{claim.expires_s} s."
        limit = f"{(present - lifetime):{_DATE_FORMAT}} ({present:{_DATE_FORMAT}} - {age})"
        raise AuthenticationError(f"Signature expired: {claim.date} is now earlier than {limit}")


def _check_signed_headers(claim: _Claim, request: HttpRequest) -> None:
    present = {name for name, _ in request.headers}
    for name in _MUST_BE_SIGNED:
        if name in present and name not in claim.signed_headers:
            raise AuthenticationError(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    if "host" not in claim.signed_headers:
        raise AuthenticationError("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    if not present.issuperset(claim.signed_headers):
        raise AuthenticationError(_MISMATCH)


def _expected_signature(claim: _Claim, credential: Credential, request: HttpRequest) -> str:
    """Sign the request as the client should have."""
    key = Credentials(credential.access_key_id, credential.secret_access_key)
    signer = _Verifier(key, claim.signing_name, claim.region)
    rebuilt = AWSRequest(
        method=request.method, url=f"http://host{request.raw_path}", params=_signed_query(claim, request)
    )
    for name, value in request.headers:
        if name in claim.signed_headers:
            rebuilt.headers[name] = value
    rebuilt.context = {"timestamp": claim.date, "payload_hash": _payload_hash(request)}
    text = signer.string_to_sign(rebuilt, signer.canonical_request(rebuilt))
    return str(signer.signature(text, rebuilt))


def _signed_query(claim: _Claim, request: HttpRequest) -> list[tuple[str, str]]:
    pairs = request.query_pairs()
    return pairs if claim.expires_s is None else [pair for pair in pairs if pair[0] != "X-Amz-Signature"]


def _payload_hash(request: HttpRequest) -> str:
    """Return the body's hash; a client that states another one, or none on purpose, is refused."""
    computed = sha256(request.body).hexdigest()
    stated = request.header("x-amz-content-sha256")
    if stated is not None and stated != computed:
        raise AuthenticationError("The x-amz-content-sha256 header does not match the hash of the body.")
    return computed


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())
