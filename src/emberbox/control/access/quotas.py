"""Quotas and request rates of accounts: their values, changes of them, and the refusals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from emberbox.control.access.identities import Identities
from emberbox.model.errors import NotFoundError, QuotaExceededError, ThrottlingError
from emberbox.model.iam.quotas import RATE_SUFFIX, Quota, QuotaValue, default_quotas
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
    """Lists and changes quotas.

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

    def list_quotas(self, account_id: str) -> list[QuotaValue]:
        """Return an account's quotas: those that AWS publishes, and every rate that was put.

        Raises:
            NotFoundError: there is no such account.
        """
        self._identities.check_account(account_id)
        put = {code for owner, code in self._store.list_quotas() if owner == account_id}
        codes = [*self._quotas.defaults, *sorted(put - self._quotas.defaults.keys())]
        return [self._value(account_id, code) for code in codes]

    def put(self, account_id: str, code: str, value: int) -> QuotaValue:
        """Change an account's quota; it counts at once.

        Raises:
            NotFoundError: there is no such account or quota.
        """
        self._check(account_id, code)
        self._store.put_quota(account_id, code, value)
        self._quotas.reload()
        return self._value(account_id, code)

    def delete(self, account_id: str, code: str) -> None:
        """Let the default count again.

        Raises:
            NotFoundError: there is no such account or quota.
        """
        self._check(account_id, code)
        self._store.remove_quota(account_id, code)
        self._quotas.reload()

    def _check(self, account_id: str, code: str) -> None:
        self._identities.check_account(account_id)
        if code not in self._codes:
            raise NotFoundError(f"Quota not found: {code}", resourceId=code, resourceType="Quota")

    def _value(self, account_id: str, code: str) -> QuotaValue:
        known = self._quotas.defaults.get(code)
        return QuotaValue(
            code=code,
            account_id=account_id,
            value=self._quotas.limit(account_id, code),
            default=known.default if known else None,
            aws_code=known.aws_code if known else None,
            unit=known.unit if known else "requests/s",
            description=known.description if known else f"{code.removesuffix(RATE_SUFFIX)} requests",
        )
