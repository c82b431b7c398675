"""examples/agent: the fix that passes is kept, and the one that runs wild harms nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from emberbox.time_limits import limit_s
from emberbox_sdk import Client, Sandbox
from support.examples import EXAMPLES, run_example

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

TESTS = ["python3", "-B", "-m", "unittest"]
OUTCOME = re.compile(r"^ *[\d.]+ s  (.+): (fails|passes|still running).*\((microvm-[\w-]+)\)$", re.MULTILINE)
SOURCE = re.compile(r"  source: .*\((microvm-[\w-]+)\)$", re.MULTILINE)


@pytest.fixture(scope="module")
def printed(environment: dict[str, str]) -> str:
    """What it printed; the tests have much time, for machines under load."""
    return run_example("agent", environment, "--keep", "--limit", str(limit_s(40)))


@pytest.fixture(scope="module")
def outcomes(printed: str) -> dict[str, tuple[str, str]]:
    """What became of each candidate, and in which microVM."""
    return {name: (outcome, microvm) for name, outcome, microvm in OUTCOME.findall(printed)}


@pytest.fixture(scope="module")
def kept(outcomes: dict[str, tuple[str, str]], sdk: Client) -> Iterator[Sandbox]:
    sandbox = Sandbox.connect(outcomes["whole cents"][1], client=sdk)
    yield sandbox
    sandbox.terminate()


def test_each_candidate_has_its_outcome(outcomes: dict[str, tuple[str, str]]) -> None:
    assert {name: outcome for name, (outcome, _) in outcomes.items()} == {
        "rounds up": "fails",
        "runs wild": "still running",
        "whole cents": "passes",
    }
    assert len({microvm for _, microvm in outcomes.values()}) == 3


def test_the_fix_is_in_the_fork_that_is_kept(kept: Sandbox) -> None:
    assert kept.run(TESTS).ok
    shipped = (EXAMPLES / "agent/project/basket.py").read_text()
    assert kept.files.read("/srv/project/basket.py") != shipped
    assert kept.files.read("/srv/project/test_basket.py") == (EXAMPLES / "agent/project/test_basket.py").read_text()


def test_nothing_of_the_wild_one_is_in_it(kept: Sandbox) -> None:
    """That one deletes the project and leaves a claim; both are in its own fork alone."""
    assert not kept.files.exists("/root/claim")


def test_all_others_have_ended(printed: str, outcomes: dict[str, tuple[str, str]], kept: Sandbox, sdk: Client) -> None:
    source = SOURCE.search(printed)
    assert source
    there = {info.id for info in Sandbox.list(client=sdk)}
    assert there & {source[1], *(microvm for _, microvm in outcomes.values())} == {kept.id}
