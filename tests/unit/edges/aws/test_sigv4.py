"""Signatures made by botocore, checked by us."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from emberbox.edges.aws.errors import AuthenticationError
from emberbox.edges.aws.http import HttpRequest
from emberbox.edges.aws.sigv4 import Identity, authenticate, check_signing_name
from emberbox.model.iam.access import Credential
from support.wire import AWKWARD, FIND_KEY, KEY, REGION, as_http, sign

URL = "http://emberbox.test/2025-09-09/microvms/m-1?b=2&a=1%2F%3D"
TEMPORARY = replace(KEY, access_key_id="ASIAEXAMPLE", session_token="session-token")


def signed(method: str = "POST", url: str = URL, body: bytes = b"{}", key: Credential = KEY) -> HttpRequest:
    return as_http(sign(AWSRequest(method, url, data=body, headers={"Content-Type": "application/json"}), key))


def presigned(expires_s: int = 60, key: Credential = KEY) -> HttpRequest:
    request = AWSRequest("GET", URL)
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    SigV4QueryAuth(credentials, "lambda", REGION, expires=expires_s).add_auth(request)
    return as_http(request)


def check(request: HttpRequest, later: timedelta = timedelta(0)) -> Identity:
    return authenticate(request, FIND_KEY, REGION, datetime.now(UTC) + later)


def code_of(request: HttpRequest, later: timedelta = timedelta(0)) -> str:
    with pytest.raises(AuthenticationError) as caught:
        check(request, later)
    assert caught.value.status == 403
    return caught.value.error_code


def with_header(request: HttpRequest, name: str, value: str | None) -> HttpRequest:
    kept = tuple(pair for pair in request.headers if pair[0] != name)
    return replace(request, headers=kept if value is None else (*kept, (name, value)))


def with_authorization(request: HttpRequest, old: str, new: str) -> HttpRequest:
    value = request.header("authorization")
    assert value is not None
    assert old in value
    return with_header(request, "authorization", value.replace(old, new))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}", "{'ü'}".encode()])
def test_a_good_signature_names_its_key(method: str, body: bytes) -> None:
    assert check(signed(method, body=body)) == Identity(KEY, "lambda", REGION)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/2017-03-31/tags/arn:aws:lambda:us-east-1:123456789012:microvm-image:web",
        "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Amicrovm-image%3Aweb",
        "/a%2Fb/c%20d/%E4%B8%AD",
        "/a//b/../c/",
    ],
)
def test_any_path_can_be_signed(path: str) -> None:
    assert check(signed(url=f"http://emberbox.test{path}")).credential is KEY


def test_query_strings_in_any_order_and_repeated_can_be_signed() -> None:
    request = AWSRequest("DELETE", "http://emberbox.test/x", params=[("k", AWKWARD), ("k", "b"), ("k", ""), ("a", "=")])
    assert check(as_http(sign(request))).credential is KEY


def test_headers_are_trimmed_as_the_signer_trims_them() -> None:
    request = AWSRequest("GET", URL, headers={"X-Custom": "  a   b  "})
    assert check(as_http(sign(request))).credential is KEY


def test_headers_that_nobody_signed_may_change() -> None:
    assert check(with_header(signed(), "user-agent", "curl")).credential is KEY


def test_a_presigned_query_is_read() -> None:
    assert check(presigned()) == Identity(KEY, "lambda", REGION)


TAMPERED: dict[str, Callable[[HttpRequest], HttpRequest]] = {
    "method": lambda request: replace(request, method="DELETE"),
    "path": lambda request: replace(request, raw_path=request.raw_path + "x"),
    "query": lambda request: replace(request, query=request.query + "&c=3"),
    "body": lambda request: replace(request, body=b"{ }"),
    "signed header": lambda request: with_header(request, "content-type", "text/plain"),
    "missing header": lambda request: with_header(request, "content-type", None),
    "host": lambda request: with_header(request, "host", "elsewhere"),
    "signature": lambda request: with_authorization(request, "Signature=", "Signature=0"),
    "not hexadecimal": lambda request: with_authorization(request, "Signature=", "Signature=é"),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_changed_request_is_refused(change: Callable[[HttpRequest], HttpRequest]) -> None:
    assert code_of(change(signed())) == "InvalidSignatureException"


@pytest.mark.parametrize("name", ["X-Amz-Expires=60", "X-Amz-SignedHeaders=host", "b=2"])
def test_a_changed_presigned_query_is_refused(name: str) -> None:
    request = presigned()
    assert name in request.query
    assert code_of(replace(request, query=request.query.replace(name, name + "1"))) == "InvalidSignatureException"


def test_the_wrong_secret_is_refused() -> None:
    assert code_of(signed(key=replace(KEY, secret_access_key="other"))) == "InvalidSignatureException"


def test_an_unknown_key_is_refused() -> None:
    assert code_of(signed(key=replace(KEY, access_key_id="AKIDOTHER"))) == "UnrecognizedClientException"


def test_no_signature_at_all_is_told_apart() -> None:
    assert code_of(HttpRequest("GET", "/", "", (("host", "x"),), b"")) == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AWS4-HMAC-SHA256 ", "Bearer "),
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
        ("Credential=", "Credentials="),
        ("Signature=", "Signatures="),
        ("SignedHeaders=", "Headers="),
        ("/aws4_request", ""),
        ("/aws4_request", "/aws5_request"),
        ("/lambda/", "/lambda/x/"),
    ],
)
def test_an_incomplete_authorization_is_refused(old: str, new: str) -> None:
    assert code_of(with_authorization(signed(), old, new)) == "IncompleteSignatureException"


@pytest.mark.parametrize("date", ["yesterday", "20261399T000000Z", "2026-01-01T00:00:00Z", ""])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    request = with_header(signed(), "x-amz-date", date)
    today = f"{datetime.now(UTC):%Y%m%d}"
    request = with_authorization(request, f"/{today}/", f"/{date[:8]}/")
    assert code_of(request) == "IncompleteSignatureException"


def test_the_date_header_is_required() -> None:
    assert code_of(with_header(signed(), "x-amz-date", None)) == "IncompleteSignatureException"


def test_the_scope_must_be_of_the_same_day() -> None:
    today = f"{datetime.now(UTC):%Y%m%d}"
    assert code_of(with_authorization(signed(), f"/{today}/", "/20200101/")) == "InvalidSignatureException"


@pytest.mark.parametrize(("service", "region"), [("lambda", "eu-west-1"), ("s3", REGION)])
def test_a_signature_for_another_place_is_refused(service: str, region: str) -> None:
    request = as_http(sign(AWSRequest("GET", URL), service=service, region=region))
    assert code_of(request) == "InvalidSignatureException"


def test_a_signature_for_another_service_is_refused_once_the_service_is_known() -> None:
    identity = check(as_http(sign(AWSRequest("GET", URL), service="logs")))
    check_signing_name(identity, "logs")
    with pytest.raises(AuthenticationError, match="'lambda'"):
        check_signing_name(identity, "lambda")


@pytest.mark.parametrize("minutes", [-4.9, 4.9])
def test_clocks_may_differ_by_five_minutes(minutes: float) -> None:
    assert check(signed(), timedelta(minutes=minutes)).credential is KEY


@pytest.mark.parametrize("minutes", [-5.1, 5.1])
def test_clocks_may_not_differ_by_more(minutes: float) -> None:
    assert code_of(signed(), timedelta(minutes=minutes)) == "InvalidSignatureException"


def test_a_presigned_query_lives_as_long_as_it_says() -> None:
    assert check(presigned(600), timedelta(seconds=590)).credential is KEY
    assert code_of(presigned(600), timedelta(seconds=610)) == "InvalidSignatureException"
    assert code_of(presigned(600), timedelta(minutes=-5.1)) == "InvalidSignatureException"


@pytest.mark.parametrize("expires_s", [0, -1, 604_801])
def test_a_presigned_query_may_not_live_for_ever(expires_s: int) -> None:
    assert code_of(presigned(expires_s)) == "IncompleteSignatureException"


def test_a_presigned_query_must_be_whole() -> None:
    request = presigned()
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders"):
        pairs = [pair for pair in request.query.split("&") if not pair.startswith(f"X-Amz-{name}=")]
        assert code_of(replace(request, query="&".join(pairs))) == "IncompleteSignatureException"


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-target"])
def test_headers_that_change_the_meaning_must_be_signed(name: str) -> None:
    request = AWSRequest("POST", URL, headers={"X-Amz-Target": "Logs_20140328.CreateLogGroup"})
    changed = as_http(sign(request))
    listed = changed.header("authorization").split("SignedHeaders=")[1].split(",")[0]  # type: ignore[union-attr]
    shorter = ";".join(part for part in listed.split(";") if part != name)
    assert code_of(with_authorization(changed, listed, shorter)) == "InvalidSignatureException"


def test_a_request_without_a_host_is_refused() -> None:
    class HostlessAuth(SigV4Auth):
        def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
            kept = super().headers_to_sign(request)
            del kept["host"]
            return kept

    request = AWSRequest("GET", URL)
    HostlessAuth(Credentials(KEY.access_key_id, KEY.secret_access_key), "lambda", REGION).add_auth(request)
    assert code_of(with_header(as_http(request), "host", None)) == "InvalidSignatureException"


def test_a_header_that_is_listed_as_signed_must_be_there() -> None:
    request = with_authorization(signed(), "SignedHeaders=", "SignedHeaders=absent;")
    assert code_of(request) == "InvalidSignatureException"


def test_an_unsigned_target_cannot_be_added() -> None:
    assert code_of(with_header(signed(), "x-amz-target", "Logs_20140328.X")) == "InvalidSignatureException"


@pytest.mark.parametrize("stated", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "", "0" * 64])
def test_a_payload_hash_that_is_not_the_bodys_is_refused(stated: str) -> None:
    request = AWSRequest("POST", URL, data=b"{}", headers={"X-Amz-Content-SHA256": stated})
    assert code_of(as_http(sign(request))) == "InvalidSignatureException"


def test_a_payload_hash_that_is_the_bodys_is_accepted() -> None:
    known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    request = AWSRequest("POST", URL, data=b"{}", headers={"X-Amz-Content-SHA256": known})
    assert check(as_http(sign(request))).credential is KEY


def test_temporary_credentials_need_their_token() -> None:
    def known(access_key_id: str, _token: str | None) -> Credential | None:
        return {TEMPORARY.access_key_id: TEMPORARY, KEY.access_key_id: KEY}.get(access_key_id)

    now = datetime.now(UTC)
    assert authenticate(signed(key=TEMPORARY), known, REGION, now).credential is TEMPORARY
    assert authenticate(presigned(key=TEMPORARY), known, REGION, now).credential is TEMPORARY
    for session_token in (None, "other"):
        request = signed(key=replace(TEMPORARY, session_token=session_token))
        with pytest.raises(AuthenticationError) as caught:
            authenticate(request, known, REGION, now)
        assert caught.value.error_code == "UnrecognizedClientException"


def test_temporary_credentials_end() -> None:
    now = datetime.now(UTC)
    for left_s, code in ((60, None), (0, "ExpiredTokenException"), (-60, "ExpiredTokenException")):
        key = replace(TEMPORARY, expires_at=now + timedelta(seconds=left_s))
        if code is None:
            assert authenticate(signed(key=key), lambda *_, key=key: key, REGION, now).credential is key
            continue
        with pytest.raises(AuthenticationError) as caught:
            authenticate(signed(key=key), lambda *_, key=key: key, REGION, now)
        assert (caught.value.error_code, caught.value.status) == (code, 403)
        assert caught.value.message == "The security token included in the request is expired"


def test_a_token_for_a_key_that_has_none_is_refused() -> None:
    assert code_of(signed(key=replace(KEY, session_token="extra"))) == "UnrecognizedClientException"


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(replace(KEY, session_token="secret")).replace("secret_access_key", "")
