"""Temporary credentials as STS lends them, and who somebody is.

They are the ones of `AccountService`: sealed session tokens without a row, checked with each request, that end at their
time, with the key that asked for them, and with the role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller
from emberbox.model.errors import AccessDeniedError, ValidationError
from emberbox.model.iam.access import Credential, PrincipalKind, Role, SessionTag, TemporaryCredentials
from emberbox.model.iam.global_keys import RESOURCE_ACCOUNT, principal_keys
from emberbox.model.iam.trust import ASSUME_ROLE, TAG_SESSION, parse_trust

CHAINED_MAX_S: Final = 3600
"""A role's session that was asked for by another role's lives so many seconds at most (STS, AssumeRole)."""

TAG_CHARACTERS_MAX: Final = 4096
"""The token, which travels in a header of each request, holds them; AWS bounds their packed size."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who signed a request, as STS shows it."""

    account_id: str
    arn: str
    id: str


@dataclass(frozen=True, slots=True)
class AssumeRoleByArn:
    """Asks for the rights of a role of the caller's account.

    Args:
        role_arn: which; its account is the caller's.
        session_name: who uses it, for the audit trail.
        duration_s: seconds that the credentials live.
        external_id: what the trust policy may want to see.
        tags: of the session.
    """

    role_arn: str
    session_name: str
    duration_s: int
    external_id: str | None = None
    tags: Mapping[str, SessionTag] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleSessionMade:
    """Credentials of a role, and who signs with them."""

    credentials: TemporaryCredentials
    sender: Sender


class SessionService:
    """Says who somebody is, and lends rights for a while.

    Args:
        identities: who is who.
    """

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def identify(self, caller: Caller) -> Sender:
        """Return who the caller is."""
        return _sender(_credential(caller))

    def get_session_token(self, caller: Caller, duration_s: int) -> TemporaryCredentials:
        """Lend the caller's own rights for some seconds.

        Raises:
            AccessDeniedError: the caller has temporary credentials itself.
        """
        credential = _credential(caller)
        if credential.session_token is not None:
            raise AccessDeniedError("Cannot call GetSessionToken with session credentials")
        return self._identities.start_session(
            credential.account_id, PrincipalKind.USER, credential.name, "", duration_s, by=credential.access_key_id
        )

    def assume_role(self, caller: Caller, asked: AssumeRoleByArn) -> RoleSessionMade:
        """Lend the rights of a role.

        Raises:
            AccessDeniedError: there is no such role, or it does not trust the caller: STS does not say which.
            ValidationError: it is for too long, or a tag is not the caller's to choose.
        """
        credential = _credential(caller)
        role = self._identities.find_role(caller.account_id, asked.role_arn.rpartition("/")[2])
        if (
            role is None
            or role.arn != asked.role_arn
            or not trusts(role, caller, asked.session_name, asked.external_id, asked.tags)
        ):
            raise AccessDeniedError(
                f"User: {credential.principal_arn} is not authorized to perform: {ASSUME_ROLE} "
                f"on resource: {asked.role_arn}"
            )
        _check_duration(credential, role, asked.duration_s)
        tags = _all_tags(credential, asked)
        made = self._identities.start_session(
            role.account_id, PrincipalKind.ROLE, role.name, asked.session_name, asked.duration_s,
            by=credential.issued_by if credential.session_token is not None else credential.access_key_id,
            tags=tags,
        )  # fmt: skip
        found = self._identities.find_credential(made.access_key_id, made.session_token)
        assert found is not None
        return RoleSessionMade(made, _sender(found))


def trusts(
    role: Role,
    caller: Caller,
    session_name: str,
    external_id: str | None = None,
    tags: Mapping[str, SessionTag] = MappingProxyType({}),
) -> bool:
    """Say whether a role's trust policy lets the caller assume it; without one it is for policies alone to say.

    Tags of a session need a permission of their own ("Pass session tags in AWS STS").
    """
    if not role.trust_document:
        return True
    credential = _credential(caller)
    facts = principal_keys(credential, caller.source_ip, caller.region, is_secure=caller.is_secure)
    facts[RESOURCE_ACCOUNT] = (role.account_id,)
    facts["sts:rolesessionname"] = (session_name,)
    if external_id is not None:
        facts["sts:externalid"] = (external_id,)
    if tags:
        facts |= {f"aws:requesttag/{key.lower()}": (tag.value,) for key, tag in tags.items()}
        facts["aws:tagkeys"] = tuple(tags)
    trust = parse_trust(role.trust_document)
    actions = (ASSUME_ROLE, TAG_SESSION) if tags else (ASSUME_ROLE,)
    return all(trust.trusts(credential, facts, action) for action in actions)


def _sender(credential: Credential) -> Sender:
    return Sender(credential.account_id, credential.principal_arn, credential.user_id)


def _all_tags(credential: Credential, asked: AssumeRoleByArn) -> dict[str, SessionTag]:
    """Return the tags of a session: those that go on from the session that asks cannot be set anew."""
    inherited = {key: tag for key, tag in credential.session_tags.items() if tag.transitive}
    taken = {key.lower() for key in inherited}
    if any(key.lower() in taken for key in asked.tags):
        raise ValidationError(
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from "
            "the calling session."
        )
    tags = {**inherited, **asked.tags}
    size = sum(len(key) + len(tag.value) for key, tag in tags.items())
    if size > TAG_CHARACTERS_MAX:
        raise ValidationError(f"The tags of a session may have {TAG_CHARACTERS_MAX} characters in all, not {size}.")
    return tags


def _credential(caller: Caller) -> Credential:
    if caller.credential is None:
        raise TypeError("who asks for a session has signed")
    return caller.credential


def _check_duration(credential: Credential, role: Role, duration_s: int) -> None:
    if credential.kind is PrincipalKind.ROLE and duration_s > CHAINED_MAX_S:
        raise ValidationError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    if duration_s > role.max_session_s:
        raise ValidationError("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
