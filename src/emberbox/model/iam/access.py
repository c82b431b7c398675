"""Accounts and who acts in them, as values."""

from __future__ import annotations

import base64
import hashlib
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from emberbox.model.iam.policies import Policy


class KeyStatus(StrEnum):
    """Whether an access key can sign requests."""

    ACTIVE = "Active"
    INACTIVE = "Inactive"


class PrincipalKind(StrEnum):
    """What can have policies."""

    USER = "user"
    ROLE = "role"


def iam_arn(account_id: str, kind: str, name: str) -> str:
    """Return the ARN of a user or a role."""
    return f"arn:aws:iam::{account_id}:{kind}/{name}"


_KEY_ID_CHARACTERS: Final = string.ascii_uppercase + "234567"
_SECRET_CHARACTERS: Final = string.ascii_letters + string.digits

ROLE_SESSION_MAX_S: Final = 43_200
"""The longest that a role's session may live, in seconds."""

NOT_KNOWN: Final = datetime.fromtimestamp(0, UTC)
"""Stands for a moment that an earlier release did not keep."""

ADMIN_USER: Final = "admin"
"""The first user of an account."""


class SessionTag(NamedTuple):
    """A tag of an assumed role's session; `transitive` when the sessions that it asks for have it too."""

    value: str
    transitive: bool = False


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that can sign requests, and whose it is.

    Attributes:
        access_key_id: the public half.
        secret_access_key: the secret half; never shown.
        account_id: the 12-digit account.
        session_token: what the client must send along, for temporary credentials; never shown.
        expires_at: when temporary credentials end.
        kind: whether a user has it or an assumed role.
        name: the user's or the role's.
        session_name: of an assumed role.
        policies: what it may do.
        issued_by: the access key that temporary credentials end with; empty where there is none.
        role: the role that is assumed; None for a user.
        session_tags: that an assumed role was asked for with.
        issued_at: when temporary credentials began; None where that is not known.
        via: the service of AWS that acts with the rights of whoever asked it; empty where it is somebody itself.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    account_id: str
    session_token: str | None = field(default=None, repr=False)
    expires_at: datetime | None = None
    kind: PrincipalKind = PrincipalKind.USER
    name: str = ADMIN_USER
    session_name: str = ""
    policies: tuple[Policy, ...] = field(default=(), repr=False)
    issued_by: str = ""
    role: Role | None = field(default=None, repr=False, compare=False)
    session_tags: Mapping[str, SessionTag] = field(default_factory=dict, repr=False, compare=False)
    issued_at: datetime | None = None
    via: str = ""

    @property
    def identity_arn(self) -> str:
        """The ARN of the user or of the role itself, as policies name it."""
        return iam_arn(self.account_id, self.kind, self.name) if self.role is None else self.role.arn

    @property
    def user_id(self) -> str:
        """What IAM calls the unique id: of a session that of its role, with the session's name."""
        if self.kind is PrincipalKind.USER:
            return unique_id("AIDA", self.identity_arn)
        return f"{self.role.id if self.role else 'AROA'}:{self.session_name}"

    @property
    def tags(self) -> Mapping[str, str]:
        """Of whoever signs, by key: the role's, and those of the session over them; users have none."""
        own = {} if self.role is None else self.role.tags
        return {**own, **{key: tag.value for key, tag in self.session_tags.items()}}

    @property
    def principal_arn(self) -> str:
        """The ARN of who has it, in IAM's or STS's form."""
        if self.kind is PrincipalKind.ROLE:
            return f"arn:aws:sts::{self.account_id}:assumed-role/{self.name}/{self.session_name}"
        return iam_arn(self.account_id, self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Account:
    """An account: everything in it is invisible to every other."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key of a user; `secret` is encrypted."""

    id: str
    account_id: str
    user_name: str
    secret: str = field(repr=False)
    status: KeyStatus
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AttachedPolicy:
    """A policy document with the user or role that it belongs to; `updated_at` is None for one that nobody put."""

    account_id: str
    kind: PrincipalKind
    principal: str
    name: str
    document: str
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class OwnCredentials:
    """Credentials that the operator puts for a role's holders, of AWS for example."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Role:
    """What a role's name stands for.

    Attributes:
        account_id: the 12-digit account.
        name: the last part of its ARN.
        description: for people.
        s3_prefixes: `s3://bucket/prefix` that a build with this role may read; None for all.
        credentials: encrypted: what its holder gets instead of temporary credentials of this server.
        updated_at: when it was last put.
        path: of its ARN, with a slash at both ends.
        trust_document: who may assume it, JSON in IAM's language; empty: all of its account whose policies allow it.
        max_session_s: seconds that a session may live.
        tags: by key.
        created_at: when it was made; the beginning of 1970 where that is not known.
        defined: the operator defined it; otherwise its account made it for itself.
    """

    account_id: str
    name: str
    description: str
    s3_prefixes: tuple[str, ...] | None
    credentials: str | None = field(repr=False)
    updated_at: datetime
    path: str = "/"
    trust_document: str = ""
    max_session_s: int = ROLE_SESSION_MAX_S
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime = NOT_KNOWN
    defined: bool = True

    @property
    def arn(self) -> str:
        """Its ARN."""
        return iam_arn(self.account_id, PrincipalKind.ROLE, f"{self.path}{self.name}"[1:])

    @property
    def id(self) -> str:
        """What IAM calls its unique id: a role that is made anew has another one."""
        return unique_id("AROA", self.arn, str(self.created_at.timestamp()))


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """A policy of an account that roles can have attached.

    Attributes:
        account_id: the 12-digit account.
        name: the last part of its ARN.
        path: of its ARN, with a slash at both ends.
        description: for people.
        document: JSON in IAM's language.
        tags: by key.
        created_at: when it was made.
    """

    account_id: str
    name: str
    path: str
    description: str
    document: str
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def arn(self) -> str:
        """Its ARN."""
        return iam_arn(self.account_id, "policy", f"{self.path}{self.name}"[1:])

    @property
    def id(self) -> str:
        """What IAM calls its unique id."""
        return unique_id("ANPA", self.arn, str(self.created_at.timestamp()))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A managed policy that a role has."""

    account_id: str
    role_name: str
    policy_arn: str


def unique_id(prefix: str, *parts: str) -> str:
    """Return the unique id that IAM shows beside an ARN: always the same of the same parts."""
    digest = base64.b32encode(hashlib.sha256("\n".join(parts).encode()).digest()).decode()
    return prefix + digest[:17]


def new_key_id(prefix: str) -> str:
    """Return a new access key id: AKIA of a user, ASIA of a session."""
    return prefix + "".join(secrets.choice(_KEY_ID_CHARACTERS) for _ in range(16))


def new_secret() -> str:
    """Return a new secret access key."""
    return "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(40))


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """What a session signs with; the moments are aware of their time zone."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    issued_at: datetime
    expires_at: datetime
