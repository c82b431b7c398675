"""Calls are counted by the minute, of operations that are there, and for a day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from emberbox.control.access.call_counts import KEPT_MINUTES, CallCounts
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord, KnownSender, Stranger

HOME = "111111111111"
NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
CALL = AuditRecord(
    "id", NOON, "RunMicrovm", "lambda.amazonaws.com", True, "us-east-1",
    KnownSender.of(Credential("AKIA", "s", HOME)), "", "", "id", False, 200,
)  # fmt: skip


def test_calls_are_summed_by_periods() -> None:
    counts = CallCounts(["RunMicrovm"])
    for minutes in (0, 0, 1, 7):
        counts.add(replace(CALL, happened_at=NOON + timedelta(minutes=minutes)))
    hour = timedelta(hours=1)
    assert counts.between(HOME, "RunMicrovm", NOON, NOON + hour, 300) == [(NOON, 3), (NOON + hour / 12, 1)]
    assert counts.between(HOME, "RunMicrovm", NOON, NOON + hour / 60, 60) == [(NOON, 2)]
    assert counts.between("222222222222", "RunMicrovm", NOON, NOON + hour, 60) == []
    assert counts.operations_of(HOME) == ["RunMicrovm"]


def test_nobody_makes_up_names_or_counts_for_others() -> None:
    counts = CallCounts(["RunMicrovm"])
    counts.add(replace(CALL, operation="Unknown"))
    counts.add(replace(CALL, source="sts.amazonaws.com"))
    counts.add(replace(CALL, sender=Stranger("AKIA")))
    assert counts.operations_of(HOME) == []


def test_a_day_is_kept() -> None:
    counts = CallCounts(["RunMicrovm"])
    for minutes in range(KEPT_MINUTES + 10):
        counts.add(replace(CALL, happened_at=NOON + timedelta(minutes=minutes)))
    found = counts.between(HOME, "RunMicrovm", NOON, NOON + timedelta(days=2), 60)
    assert (len(found), found[0][0]) == (KEPT_MINUTES, NOON + timedelta(minutes=10))
