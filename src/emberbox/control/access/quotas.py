"""Quotas and request rates of accounts: their values, the operations on them, and the refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from emberbox.control.access.identities import Identities
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import NotFoundError, QuotaExceededError, ThrottlingError
from emberbox.model.iam.quotas import RATE_SUFFIX, Quota, default_quotas
from emberbox.store.access import AccessStore


class Quotas:
    """The limits of every account.

    Args:
        store: the values that were put.
        region: the region played; it decides about defaults.
    """

    def __init__(self, store: AccessStore, region: str) -> None:
        self._store = store
        self.defaults: Mapping[str, Quota] = default_quotas(region)
        self.reload()

    def reload(self) -> None:
        """Read the rows again; called after every change of them."""
        self._values = self._store.list_quotas()

    def limit(self, account_id: str, code: str) -> int | None:
        """Return the value of a quota; None where there is no limit."""
        value = self._values.get((account_id, code))
        if value is None and (quota := self.defaults.get(code)) is not None:
            value = quota.default
        return value

    def check(self, account_id: str, code: str, in_use: int, wanted: int = 1) -> None:
        """Refuse what would go beyond a quota.

        Raises:
            QuotaExceededError: it would.
        """
        limit = self.limit(account_id, code)
        if limit is not None and in_use + wanted > limit:
            raise QuotaExceededError(self.defaults[code].refusal.format(limit=limit))


class RateLimiter:
    """Token buckets, one for each account and operation: as many requests at once as come in a second.

    A bucket belongs to the rate that it was filled at: when a quota changes, the next request finds a full one.

    Args:
        quotas: the rates.
        clock: seconds that only go forward.
    """

    def __init__(self, quotas: Quotas, clock: Callable[[], float] = time.monotonic) -> None:
        self._quotas = quotas
        self._clock = clock
        self._buckets: dict[tuple[str, str], tuple[int, float, float]] = {}

    def take(self, account_id: str, operation: str) -> None:
        """Count a request.

        Raises:
            ThrottlingError: there were too many.
        """
        rate = self._quotas.limit(account_id, f"{operation}{RATE_SUFFIX}")
        if rate is None:
            return
        now, key = self._clock(), (account_id, operation)
        filled_for, tokens, filled_at = self._buckets.get(key, (rate, float(rate), now))
        if filled_for != rate:
            tokens, filled_at = float(rate), now
        tokens = min(float(rate), tokens + (now - filled_at) * rate)
        allowed = tokens >= 1
        self._buckets[key] = (rate, tokens - 1 if allowed else tokens, now)
        if not allowed:
            raise ThrottlingError("Rate exceeded")


class QuotaService:
    """Answers the operations.

    Args:
        identities: who is who.
        quotas: the values.
        store: the rows.
        operations: names of all operations; each can have a rate.
    """

    def __init__(self, identities: Identities, quotas: Quotas, store: AccessStore, operations: Iterable[str]) -> None:
        self._identities = identities
        self._quotas = quotas
        self._store = store
        self._codes = set(quotas.defaults) | {f"{operation}{RATE_SUFFIX}" for operation in operations}

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"ListQuotas": self.list_quotas, "PutQuota": self.put, "DeleteQuota": self.delete}

    async def list_quotas(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListQuotas: those that AWS publishes, and every rate that was put."""
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        put = {code for owner, code in self._store.list_quotas() if owner == account_id}
        codes = [*self._quotas.defaults, *sorted(put - self._quotas.defaults.keys())]
        return {"items": [self._show(account_id, code) for code in codes]}

    async def put(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """PutQuota: takes effect with the next request; what is there already stays."""
        account_id, code = self._check_code(caller, parameters)
        self._store.put_quota(account_id, code, parameters["value"])
        self._quotas.reload()
        return {"quota": self._show(account_id, code)}

    async def delete(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteQuota: the default counts again."""
        account_id, code = self._check_code(caller, parameters)
        self._store.remove_quota(account_id, code)
        self._quotas.reload()
        return {}

    def _check_code(self, caller: Caller, parameters: dict[str, Any]) -> tuple[str, str]:
        account_id = self._identities.check_account(parameters.get("accountId", caller.account_id))
        code = parameters["quotaCode"]
        if code not in self._codes:
            raise NotFoundError(f"Quota not found: {code}", resourceId=code, resourceType="Quota")
        return account_id, code

    def _show(self, account_id: str, code: str) -> dict[str, Any]:
        known = self._quotas.defaults.get(code)
        return {
            "quotaCode": code,
            "awsQuotaCode": known and known.aws_code,
            "accountId": account_id,
            "value": self._quotas.limit(account_id, code),
            "defaultValue": known and known.default,
            "unit": known.unit if known else "requests/s",
            "description": known.description if known else f"{code.removesuffix(RATE_SUFFIX)} requests",
        }
