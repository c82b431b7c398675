"""Parameters that are stored under names: what Systems Manager's Parameter Store is used for around stacks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredParameter:
    """A stored parameter; `type` is String or StringList, `version` counts its changes from 1."""

    account_id: str
    name: str
    type: str
    value: str
    description: str
    version: int
    updated_at: datetime
