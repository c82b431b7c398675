"""The operations on who may do what: those of each resource together."""

from __future__ import annotations

from emberbox.control.access.guard import Access
from emberbox.edges.aws.operations import accounts, audit, policies, quotas, roles
from emberbox.edges.aws.operations.handler import Handler


def handlers(access: Access) -> dict[str, Handler]:
    """Return the handler of each operation, by its name in the service model."""
    return (
        accounts.handlers(access.accounts)
        | policies.handlers(access.policies)
        | roles.handlers(access.role_definitions)
        | quotas.handlers(access.quota_values)
        | audit.handlers(access.audit)
    )
