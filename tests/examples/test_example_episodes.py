"""examples/episodes: every fork begins from one state, draws random numbers of its own, and sees nothing of others."""

from __future__ import annotations

import copy
import json
import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from emberbox_sdk import Client, Sandbox
from support.examples import EXAMPLES, run_example

pytestmark = [pytest.mark.vm]

STEPS = 20_000


@pytest.fixture(scope="module", params=[pytest.param(8, marks=pytest.mark.both_engines), 100])
def episodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> tuple[int, dict[str, Any]]:
    """How many forks there were, and all results."""
    out = tmp_path_factory.mktemp("episodes") / "results.json"
    arguments = ("--forks", str(request.param), "--steps", str(STEPS), "--results", str(out))
    run_example("episodes", environment, *arguments)
    return request.param, json.loads(Path(out).read_text())


@pytest.fixture(scope="module")
def played_alone(episodes: tuple[int, dict[str, Any]]) -> dict[int, tuple[str, int]]:
    """The digest of the end and the reward of each policy, played one after the other in worlds of this process."""
    example = runpy.run_path(str(EXAMPLES / "episodes" / "world.py"))
    start = example["World"](1)
    for _ in range(STEPS):
        start.step(start.random.choice(example["MOVES"]))

    def play(seed: int) -> tuple[str, int]:
        world, policy = copy.deepcopy(start), random.Random(seed)
        reward = sum(world.step(policy.choice(example["MOVES"])) for _ in range(example["STEPS"]))
        return world.digest(), reward

    return {seed: play(seed) for seed in range(episodes[0])}


def test_each_fork_began_from_the_start_state(episodes: tuple[int, dict[str, Any]]) -> None:
    count, found = episodes
    assert found["start"]["steps"] == STEPS
    assert [result["seed"] for result in found["results"]] == [*range(count)]
    assert [result["begin"] for result in found["results"]] == [found["start"]] * count
    assert len({result["microvm"] for result in found["results"]}) == count


def test_each_policy_has_come_to_the_end_that_it_comes_to_alone(
    episodes: tuple[int, dict[str, Any]], played_alone: dict[int, tuple[str, int]]
) -> None:
    _, found = episodes
    assert {result["seed"]: (result["end"]["digest"], result["reward"]) for result in found["results"]} == played_alone
    assert len(set(played_alone.values())) > len(played_alone) / 2


def test_each_drew_random_numbers_of_its_own(episodes: tuple[int, dict[str, Any]]) -> None:
    count, found = episodes
    assert len({result["entropy"] for result in found["results"]}) == count


def test_each_sees_its_own_file_alone(episodes: tuple[int, dict[str, Any]]) -> None:
    _, found = episodes
    assert found["start"]["episodes"] == []
    for result in found["results"]:
        assert result["end"]["episodes"] == [f"{result['seed']}.txt"]


def test_no_microvm_is_left(episodes: tuple[int, dict[str, Any]], sdk: Client) -> None:
    _, found = episodes
    assert {info.id for info in Sandbox.list(client=sdk)}.isdisjoint(result["microvm"] for result in found["results"])
