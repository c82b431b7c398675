"""The credentials that a guest finds at its metadata address: those of a role, kept until they are nearly over.

A suspend renews nothing: what is still good is shown again, as on AWS (dossier, section 9.2).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from emberbox.model.iam.access import TemporaryCredentials

RENEW_BEFORE: Final = timedelta(minutes=5)

IssueCredentials = Callable[[str, str, str], TemporaryCredentials | None]
"""Makes credentials of an account's role for a session's name; None for a role that is not defined."""


class RoleSession:
    """One holder of a role.

    Args:
        issue: makes credentials.
        account_id: whose role it is.
        role_arn: the role; None for a microVM without one.
        name: the holder, for the audit trail.
    """

    def __init__(self, issue: IssueCredentials, account_id: str, role_arn: str | None, name: str) -> None:
        self._issue = issue
        self._account_id = account_id
        self._role_arn = role_arn
        self._name = name
        self._held: TemporaryCredentials | None = None

    def credentials(self) -> TemporaryCredentials | None:
        """Return what is good for some minutes more; None without a role, or where it is not defined."""
        if self._role_arn is None:
            return None
        if self._held is None or self._held.expires_at - datetime.now(UTC) < RENEW_BEFORE:
            self._held = self._issue(self._account_id, self._role_arn, self._name)
        return self._held
