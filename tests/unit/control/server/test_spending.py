"""What microVMs have used, reckoned from the changes of their states."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emberbox.control.server.spending import X86, running_seconds
from emberbox.model.caller import Caller
from emberbox.model.causes import Actor
from emberbox.model.records import Event, Microvm
from emberbox.model.states import MicrovmState
from support.control_plane import ControlPlane
from support.wire import KEY, REGION

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
S = MicrovmState
AT = timedelta


def event(number: int, at_s: float, before: MicrovmState | None, state: MicrovmState) -> Event:
    return Event(number, "1", "m", before, state, Actor.CALLER, "", 0, SINCE + timedelta(seconds=at_s))


@pytest.mark.parametrize(
    ("state", "changes", "seconds"),
    [
        (S.TERMINATED, [(0, None, S.PENDING), (10, S.PENDING, S.RUNNING), (40, S.RUNNING, S.TERMINATING)], 30),
        (S.RUNNING, [(10, S.PENDING, S.RUNNING)], 90),
        (S.SUSPENDED, [(25, S.RUNNING, S.SUSPENDING), (30, S.SUSPENDING, S.SUSPENDED)], 25),
        (S.RUNNING, [], 100),
        (S.SUSPENDED, [], None),
        (S.RUNNING, [(10, S.RUNNING, S.SUSPENDING), (50, S.SUSPENDED, S.RUNNING), (60, S.RUNNING, S.RUNNING)], 60),
    ],
)
def test_only_the_time_in_running_counts(
    tmp_path: Path, state: MicrovmState, changes: list[tuple[float, MicrovmState | None, MicrovmState]], seconds: float
) -> None:
    plane = ControlPlane(tmp_path, KEY, REGION)
    microvm = plane.add_microvm(plane.add_image("one"), state)
    events = [replace(event(number, *change), microvm_id=microvm.id) for number, change in enumerate(changes)]
    rows: dict[str, Microvm] = {microvm.id: replace(microvm, started_at=SINCE - timedelta(hours=1))}
    now = SINCE + timedelta(seconds=100)
    assert running_seconds(events, rows, SINCE, now).get(microvm.id) == seconds


def test_the_price_is_that_of_the_baseline(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, KEY, REGION)
    microvm = plane.add_microvm(plane.add_image("one"), S.PENDING)
    plane.add_microvm(plane.add_image("other", account="111111111111"), S.RUNNING)
    plane.microvms.change_state(microvm.id, S.RUNNING)
    caller = Caller(KEY.account_id, KEY.access_key_id, REGION, "r", "")
    now = datetime.now(UTC) + timedelta(seconds=3600)
    (found,) = plane.control.spending.measure(caller, now - timedelta(days=1), now)
    assert found.launches == 1
    assert found.running_s == pytest.approx(3600, abs=60)
    assert found.vcpu_s == pytest.approx(found.running_s / 4)  # 512 MiB come with a quarter of a processor
    assert found.usd == pytest.approx(found.running_s * (X86.vcpu / 4 + X86.gib / 2))
