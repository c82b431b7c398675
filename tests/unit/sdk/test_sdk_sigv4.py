"""Signatures are those of botocore."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from sdk_world import CONFIG

from emberbox_sdk import wire
from emberbox_sdk.sigv4 import Signer
from emberbox_sdk.wire import ApiRequest

NOW = datetime(2026, 11, 26, 3, 4, 5, tzinfo=UTC)


def botocores(request: ApiRequest, base: str, session_token: str = "") -> str:
    """Return the signature of botocore."""
    kind = S3SigV4Auth if request.service == "s3" else SigV4Auth
    signed = AWSRequest(request.method, request.url(base), headers=dict(request.headers), data=request.body)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        signer = kind(Credentials("AKID", "secret", session_token or None), request.service, "us-east-1")
        with mock.patch.object(signer, "payload", return_value=ours_digest(request)):
            signed.headers["X-Amz-Content-SHA256"] = ours_digest(request)
            signer.add_auth(signed)
    return str(signed.headers["Authorization"]).rpartition("Signature=")[2]


def ours_digest(request: ApiRequest) -> str:
    return hashlib.sha256(request.body).hexdigest()


def ours(request: ApiRequest, base: str, session_token: str = "") -> str:
    signer = Signer("AKID", "secret", session_token, "us-east-1", request.service)
    headers = signer.sign(request.method, request.url(base), ours_digest(request), request.headers, NOW)
    return headers["authorization"].rpartition("Signature=")[2]


ARN = "arn:aws:lambda:us-east-1:000000000000:microvm-image:hello"


@pytest.mark.parametrize(
    "request_",
    [
        wire.get_microvm("mvm-1"),
        wire.list_microvms("a+/=b c", ARN),
        wire.get_image_version(ARN, "1.0"),
        wire.run_microvm({"imageIdentifier": ARN, "clientToken": "t"}),
        wire.filter_log_events("/aws/x", 5),
        wire.put_object("bucket", "a/b.zip", b"\x00\xff"),
        wire.create_bucket("bucket", "eu-west-1"),
    ],
    ids=lambda request: f"{request.method} {request.path}",
)
@pytest.mark.parametrize("session_token", ["", "session"])
def test_requests_are_signed_as_botocore_signs_them(request_: ApiRequest, session_token: str) -> None:
    base = "http://127.0.0.1:9070"
    assert ours(request_, base, session_token) == botocores(request_, base, session_token)


PARTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda part: part not in (".", ".."))
"""No identifier is one of the two that botocore takes out of a path before it signs it."""


@given(PARTS, st.dictionaries(st.text("ab%/ +=é"), st.text("x&= ")))
def test_any_path_and_query(part: str, query: dict[str, str]) -> None:
    request = ApiRequest("GET", f"/x/{quote(part, safe='')}", query=query)
    assert ours(request, "http://api.test") == botocores(request, "http://api.test")


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(CONFIG)
    assert "secret" not in repr(Signer("AKID", "secret", "session", "r", "s"))
