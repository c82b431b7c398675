"""Global condition keys: what follows from who signed, and whose a resource is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from emberbox.model.iam.access import Credential, PrincipalKind, Role, SessionTag
from emberbox.model.iam.global_keys import header_keys, owner_of, principal_keys

HOME = "111111111111"
NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
ROLE = Role(HOME, "app", "", None, None, NOW, path="/team/", tags={"Team": "red", "stage": "test"})


def test_a_user_has_no_keys_of_sessions() -> None:
    keys = principal_keys(Credential("AKIA", "s", HOME, name="ann"), "192.0.2.1", "us-east-1")
    assert keys["aws:principalarn"] == (f"arn:aws:iam::{HOME}:user/ann",)
    assert (keys["aws:username"], keys["aws:principaltype"]) == (("ann",), ("User",))
    assert keys["aws:userid"][0].startswith("AIDA")
    assert (keys["aws:sourceip"], keys["aws:viaawsservice"]) == (("192.0.2.1",), ("false",))
    absent = {"aws:tokenissuetime", "aws:multifactorauthpresent", "aws:calledvia"}
    assert not absent & keys.keys()
    assert "aws:sourceip" not in principal_keys(Credential("AKIA", "s", HOME), "", "us-east-1")
    assert keys["aws:securetransport"] == ("false",)


def test_tls_is_known_where_it_is() -> None:
    keys = principal_keys(Credential("AKIA", "s", HOME), "", "us-east-1", is_secure=True)
    assert keys["aws:securetransport"] == ("true",)


def test_a_session_is_its_role_with_its_tags() -> None:
    credential = Credential(
        "ASIA", "s", HOME, "token", kind=PrincipalKind.ROLE, name="app", session_name="job", role=ROLE,
        session_tags={"stage": SessionTag("prod")}, issued_at=NOW, via="cloudformation.amazonaws.com",
    )  # fmt: skip
    keys = principal_keys(credential, "", "us-east-1")
    assert keys["aws:principalarn"] == (f"arn:aws:iam::{HOME}:role/team/app",)
    assert keys["aws:userid"] == (f"{ROLE.id}:job",)
    assert (keys["aws:principaltag/team"], keys["aws:principaltag/stage"]) == (("red",), ("prod",))
    assert keys["aws:tokenissuetime"] == ("2026-11-26T10:00:00Z",)
    assert keys["aws:multifactorauthpresent"] == ("false",)
    assert keys["aws:viaawsservice"] == ("true",)
    assert keys["aws:calledvia"] == keys["aws:calledviafirst"] == ("cloudformation.amazonaws.com",)
    assert "aws:username" not in keys


def test_what_a_service_does_for_a_key_is_no_sessions() -> None:
    credential = Credential("ASIA", "s", HOME, "token", via="cloudformation.amazonaws.com")
    keys = principal_keys(credential, "", "us-east-1")
    assert not {"aws:tokenissuetime", "aws:multifactorauthpresent"} & keys.keys()
    assert principal_keys(Credential("ASIA", "s", HOME, "token"), "", "x")["aws:multifactorauthpresent"] == ("false",)


def test_headers_give_what_the_client_says_of_itself() -> None:
    assert header_keys({"user-agent": "aws-cli/2", "referer": "", "host": "x"}) == {"aws:useragent": ("aws-cli/2",)}


@pytest.mark.parametrize(
    ("resource", "owner"),
    [
        (f"arn:aws:lambda:us-east-1:{HOME}:microvm-image:web", HOME),
        ("*", "222222222222"),
        ("arn:aws:s3:::bucket/key", "222222222222"),
        ("arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS", None),
    ],
)
def test_a_resource_belongs_to_whom_its_arn_names(resource: str, owner: str | None) -> None:
    assert owner_of(resource, "222222222222") == owner
