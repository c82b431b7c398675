"""What epoll tells after suspends: nothing of what was taken out, and all of what was left in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emberbox_sdk import Sandbox
from support import event_polls
from support.images import Image
from support.programs import errors, running
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]


@pytest.fixture
def sandbox(server: Server, flask_image: Image) -> Iterator[Sandbox]:
    with running(event_polls, server, flask_image) as sandbox:
        yield sandbox


def said(sandbox: Sandbox) -> list[str]:
    return sandbox.run(f"cat {event_polls.SAID} {errors(event_polls)} 2>/dev/null").stdout.splitlines()


def go_on(sandbox: Sandbox, number: int, told: str) -> None:
    sandbox.run(f"echo {number} > {event_polls.NEXT}")
    wait_for(told, lambda: told in said(sandbox))


def test_what_was_taken_out_of_an_epoll_instance_stays_out_and_the_rest_is_heard(sandbox: Sandbox) -> None:
    """Its entries are older than the first suspend, some are taken out before the second, the rest is used after it."""
    wait_for("the program begins", lambda: "begun" in said(sandbox))
    sandbox.suspend()
    sandbox.resume()
    assert said(sandbox) == ["begun"]
    go_on(sandbox, 1, "removed")
    sandbox.suspend()
    sandbox.resume()
    go_on(sandbox, 2, "written")
    heard = [f"{kind} heard 0x1" for kind in event_polls.KINDS]
    wait_for("all that was written is heard", lambda: set(heard) <= set(said(sandbox)))
    sandbox.suspend()
    sandbox.resume()
    assert sorted(said(sandbox)) == sorted(["begun", "removed", "written", *heard])
