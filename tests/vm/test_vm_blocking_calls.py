"""System calls that wait are not ended by suspends: they go on, and end when what they wait for is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emberbox_sdk import Sandbox
from support import blocking_calls
from support.blocking_calls import NEXT, SAID, TIMED, WAITING, WAITS_S
from support.engines import ENGINE
from support.images import Image
from support.programs import errors, running
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]


@pytest.fixture
def sandbox(server: Server, flask_image: Image) -> Iterator[Sandbox]:
    with running(blocking_calls, server, flask_image) as sandbox:
        yield sandbox


def said(sandbox: Sandbox) -> list[str]:
    return sandbox.run(f"cat {SAID} {errors(blocking_calls)} 2>/dev/null").stdout.splitlines()


def test_calls_that_wait_go_on_over_suspends(sandbox: Sandbox) -> None:
    wait_for("all calls wait", lambda: "begun" in said(sandbox))
    sandbox.run("sleep 1")
    for _ in range(2):
        sandbox.suspend()
        sandbox.resume()
    ended = {line.rpartition(" ")[0] for line in said(sandbox)}
    assert ended & WAITING.keys() <= ENGINE.interrupted

    sandbox.run(f"touch {NEXT}")
    names = WAITING.keys() | TIMED.keys()
    wait_for("all calls have ended", lambda: len(said(sandbox)) > len(names), WAITS_S + 60)
    lines = said(sandbox)
    assert sorted(lines) == sorted(["begun", *(f"{name} {outcome(name, lines)}" for name in names)])


def outcome(name: str, lines: list[str]) -> str:
    """Return what a call must come to."""
    return "EINTR" if name in ENGINE.interrupted and f"{name} EINTR" in lines else "ok"
