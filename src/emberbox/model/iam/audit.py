"""The audit trail as values: who asked for what, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from emberbox.model.iam.access import Credential, PrincipalKind


@dataclass(frozen=True, slots=True)
class KnownSender:
    """Who signed a request.

    Attributes:
        kind: a user or an assumed role.
        arn: of who it is.
        account_id: the 12-digit account.
        access_key_id: the key.
        name: the user's or the role's.
        session_name: of an assumed role.
    """

    kind: PrincipalKind
    arn: str
    account_id: str
    access_key_id: str
    name: str
    session_name: str

    @classmethod
    def of(cls, credential: Credential) -> KnownSender:
        """Return whose credential it is."""
        return cls(
            kind=credential.kind,
            arn=credential.principal_arn,
            account_id=credential.account_id,
            access_key_id=credential.access_key_id,
            name=credential.name,
            session_name=credential.session_name,
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """The sender of a request that nobody known has signed, and the key that it claimed, where it claimed one."""

    claimed_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuditedResource:
    """What a request was about; the kind where it has a name in the trail (`AWS::Lambda::MicrovmImage`)."""

    arn: str
    account_id: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a request failed: the code, and the text that the sender was told."""

    code: str
    message: str | None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One answered request.

    Attributes:
        id: a UUID.
        happened_at: when it was answered, in UTC.
        operation: the operation's name.
        source: the service.
        is_data: it is about what runs, not about what is set up.
        region: the region played.
        sender: who asked.
        source_ip: from where; empty where the server does not know.
        user_agent: with what.
        request_id: the UUID that the answer carried.
        read_only: it changed nothing.
        status: of the HTTP answer.
        resources: what it was about.
        parameters: what was asked, without secrets, as JSON holds it (moments may be left); None where it was not read.
            Nobody changes it any more.
        answer: what was answered, in the same way; None for what only reads or was refused.
        refusal: None for what was done.
    """

    id: str
    happened_at: datetime
    operation: str
    source: str
    is_data: bool
    region: str
    sender: KnownSender | Stranger
    source_ip: str
    user_agent: str
    request_id: str
    read_only: bool
    status: int
    resources: tuple[AuditedResource, ...] = ()
    parameters: object = None
    answer: object = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class AuditGap:
    """Stands for records that were lost: when that was noticed (in UTC), why, and how many."""

    happened_at: datetime
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What is found again of a record.

    Attributes:
        id: its UUID; empty for a gap.
        operation: the operation's name.
        happened_at: aware of its time zone.
        account_id: of who asked; None for a stranger and for a gap.
        user_name: the user's or the role's.
        error_code: None for what was done.
        line: the whole record, as it is in the file.
    """

    id: str
    operation: str
    happened_at: datetime
    account_id: str | None
    user_name: str | None
    error_code: str | None
    line: str
