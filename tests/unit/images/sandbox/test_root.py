"""What a sandbox prints: lines for the log, and an outcome that nobody trusts; who is told how its root is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from emberbox.images.sandbox.root import BuilderRoots, Outcome
from emberbox.model.errors import HostError


def test_lines_are_for_the_log_and_the_last_outcome_counts() -> None:
    lines: list[str] = []
    outcome = Outcome(lines.append)
    for line in (" one", " =two", '={"a": 1}', "three", '={"a": 2}'):
        outcome.take(line)
    assert lines == ["one", "=two", "three"]
    assert outcome.read() == {"a": 2}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (" nothing", "without an outcome"),
        ("={", "without an outcome"),
        ("=[]", "failed"),
        ('={"failed": "dockerd does not start"}', "dockerd does not start"),
        ('="' + "x" * (1 << 21) + '"', "without an outcome"),
    ],
)
def test_what_is_no_outcome_is_an_error_of_the_machine(line: str, why: str) -> None:
    outcome = Outcome(lambda _line: None)
    outcome.take(line)
    with pytest.raises(HostError, match=why):
        outcome.read()


class Archive:
    """Base images whose making can be held up, and fails."""

    def __init__(self) -> None:
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def ensure_archive(self, say: Callable[[str], None]) -> Path:
        say("Making the base image ...")
        self.begun.set()
        await self.go_on.wait()
        raise HostError("no mmdebstrap")


async def test_all_who_wait_are_told_what_is_being_made(tmp_path: Path) -> None:
    """A server begins with it when it starts, for nobody; the first build must not be silent meanwhile."""
    archive = Archive()
    roots = BuilderRoots(tmp_path, cast("Any", archive), cast("Any", None))
    heard: list[list[str]] = [[], [], []]
    tasks = [asyncio.ensure_future(roots.ensure(heard[0].append))]
    await archive.begun.wait()
    tasks.append(asyncio.ensure_future(roots.ensure(heard[1].append)))
    await asyncio.sleep(0)
    assert heard[:2] == [["Making the base image ..."]] * 2
    archive.go_on.set()
    assert [str(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == ["no mmdebstrap"] * 2
    with pytest.raises(HostError):
        await roots.ensure(heard[2].append)
    assert heard[2] == ["Making the base image ..."]  # its own, not one of before
