"""How long a guest sees the same credentials."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from emberbox.control.access.role_sessions import RoleSession
from emberbox.model.iam.access import TemporaryCredentials

ROLE = "arn:aws:iam::123456789012:role/execution"


class Issuer:
    """Makes credentials that live for some time, and counts them."""

    def __init__(self, lifetime: timedelta) -> None:
        self.lifetime = lifetime
        self.issued: list[tuple[str, str, str]] = []

    def __call__(self, account_id: str, role_arn: str, name: str) -> TemporaryCredentials:
        self.issued.append((account_id, role_arn, name))
        now = datetime.now(UTC)
        return TemporaryCredentials(f"ASIA{len(self.issued)}", "secret", "token", now, now + self.lifetime)


def test_credentials_are_kept_while_they_are_good() -> None:
    issuer = Issuer(timedelta(minutes=55))
    session = RoleSession(issuer, "123456789012", ROLE, "microvm-1")

    assert session.credentials() == session.credentials()
    assert issuer.issued == [("123456789012", ROLE, "microvm-1")]


def test_credentials_that_are_nearly_over_are_renewed() -> None:
    session = RoleSession(Issuer(timedelta(minutes=4)), "123456789012", ROLE, "microvm-1")

    assert session.credentials() != session.credentials()


def test_without_a_role_nothing_is_issued() -> None:
    issuer = Issuer(timedelta(minutes=55))

    assert RoleSession(issuer, "123456789012", None, "microvm-1").credentials() is None
    assert issuer.issued == []
