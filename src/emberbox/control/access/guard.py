"""Who may do what: the parts put together, as the guard of any edge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from emberbox.control.access.accounts import AccountService
from emberbox.control.access.audit import AuditService, AuditTrail
from emberbox.control.access.authorisation import AccessRequest, Authoriser
from emberbox.control.access.call_counts import CallCounts
from emberbox.control.access.delegation import Delegates
from emberbox.control.access.iam_roles import IamRoles
from emberbox.control.access.identities import Identities
from emberbox.control.access.managed_policies import ManagedPolicies
from emberbox.control.access.policies import PolicyService
from emberbox.control.access.quotas import Quotas, QuotaService, RateLimiter
from emberbox.control.access.resources import ResourceIndex
from emberbox.control.access.roles import Roles, RoleService
from emberbox.control.access.sessions import SessionService
from emberbox.control.access.vault import Vault
from emberbox.control.requests.paging import PageTokens
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord
from emberbox.store.access import AccessStore
from emberbox.store.audit import AuditFiles
from emberbox.store.connectors import ConnectorStore
from emberbox.store.database import Database
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """What the operator chose.

    Attributes:
        home: the state directory.
        region: the region played.
        operator_account: the account of the first key.
        strict_roles: an undefined role is an error.
        rate_limits: request rates are limited.
        audit_file_bytes: the size at which a file of the audit trail is followed by a new one.
        audit_files: so many are kept.
    """

    home: Path
    region: str
    operator_account: str
    strict_roles: bool
    rate_limits: bool
    audit_file_bytes: int
    audit_files: int


class Access:
    """Accounts, policies, roles, quotas and the audit trail of one server.

    Attributes:
        accounts: makes and lists accounts and keys; lends rights.
        policies: puts and lists the policies of users.
        role_definitions: puts and lists roles.
        iam_roles: makes and changes roles bit by bit, as IAM does.
        managed_policies: makes policies that roles can have attached.
        sessions: says who somebody is, and lends rights as STS does.
        delegates: acts as somebody when a request has been answered.
        quota_values: puts and lists quotas.
        audit: looks records up.
        roles: what the roles that requests name stand for.
        quotas: the limits of every account.
        call_counts: how often operations were called.
        trail: takes records; whoever made this starts and closes it.
        resources: what an edge looks up to say what a request needs.

    Args:
        settings: see there.
        database: the rows.
        page_tokens: for the audit trail's pages.
        first_key: returns the credential of the credentials file.
        operations: names of all operations; each can have a rate.
    """

    def __init__(
        self,
        settings: AccessSettings,
        *,
        database: Database,
        page_tokens: PageTokens,
        first_key: Callable[[], Credential],
        operations: Iterable[str],
    ) -> None:
        store, vault = AccessStore(database), Vault(settings.home / "secrets" / "access.key")
        identities = self._identities = Identities(store, vault, settings.operator_account)
        key = first_key()
        identities.adopt(key.access_key_id, key.secret_access_key, datetime.now(UTC))
        files = AuditFiles(settings.home / "audit", settings.audit_file_bytes, settings.audit_files)

        self.roles = Roles(identities, vault, settings.strict_roles)
        self.quotas = Quotas(store, settings.region)
        self.trail = AuditTrail(files)
        operations = tuple(operations)
        self.call_counts = CallCounts(operations)
        self.resources = ResourceIndex(
            images=ImageStore(database),
            microvms=MicrovmStore(database),
            connectors=ConnectorStore(database),
            identities=identities,
        )
        self._authoriser = Authoriser(identities, self.resources, self.roles, settings.region)
        self._limiter = RateLimiter(self.quotas) if settings.rate_limits else None

        self.accounts = AccountService(identities, store, first_key_id=lambda: first_key().access_key_id)
        self.sessions = SessionService(identities)
        self.delegates = Delegates(identities, settings.region)
        self.policies = PolicyService(identities, store)
        self.role_definitions = RoleService(identities, store, vault)
        self.iam_roles = IamRoles(identities, store)
        self.managed_policies = ManagedPolicies(identities, store, self.iam_roles)
        self.quota_values = QuotaService(identities, self.quotas, store, operations)
        self.audit = AuditService(self.trail, files, page_tokens, identities)

    def find_credential(self, access_key_id: str, token: str | None) -> Credential | None:
        """Return the credential that a request was signed with; None when it counts for nothing."""
        return self._identities.find_credential(access_key_id, token)

    def throttle(self, credential: Credential, operation: str) -> None:
        """Count a request.

        Raises:
            ThrottlingError: there were too many.
        """
        if self._limiter is not None:
            self._limiter.take(credential.account_id, operation)

    def authorise(self, credential: Credential, source_ip: str, request: AccessRequest) -> None:
        """Let a request pass, or not.

        Raises:
            AccessDeniedError: no policy allows it, or one denies it.
            ValidationError: a role is not defined, and roles are strict.
        """
        self._authoriser.authorise(credential, source_ip, request)

    def record(self, record: AuditRecord) -> None:
        """Add a record to the audit trail, and count the request."""
        self.call_counts.add(record)
        self.trail.add(record)
