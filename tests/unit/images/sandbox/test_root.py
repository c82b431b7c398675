"""What a sandbox prints: lines for the log, and an outcome that nobody trusts."""

from __future__ import annotations

import pytest

from emberbox.images.sandbox.root import Outcome
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
