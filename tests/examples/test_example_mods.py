"""examples/mods: the game goes on, whatever mods do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from emberbox_sdk import Client, Sandbox
from support.examples import run_example

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

TICKS = 8


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """What a short game printed, and what became of each mod; moves have much time, for machines under load."""
    result = tmp_path_factory.mktemp("mods") / "result.json"
    limits = ("--move-s", "300", "--load-s", "300", "--cpu-s", "5", "--memory-mib", "48")
    printed = run_example("mods", environment, "--ticks", str(TICKS), *limits, "--out", str(result))
    return printed, {row["name"]: row for row in json.loads(Path(result).read_text())}


def test_each_bad_mod_is_out_for_what_it_did(game: tuple[str, dict[str, Any]]) -> None:
    _, mods = game
    fates = {name: row["fate"].partition(":")[0] for name, row in mods.items()}
    assert fates == {"walker": "", "runner": "", "hanging": "processor", "greedy": "memory", "crashing": "crash"}
    assert mods["hanging"]["ticks"] == 2
    assert mods["crashing"]["ticks"] == 3
    assert 0 < mods["greedy"]["ticks"] < TICKS


def test_the_game_goes_on(game: tuple[str, dict[str, Any]]) -> None:
    printed, mods = game
    assert [int(number) for number in re.findall(r"^tick +(\d+)", printed, re.MULTILINE)] == [*range(1, TICKS + 1)]
    assert mods["walker"]["ticks"] == mods["runner"]["ticks"] == TICKS
    assert mods["walker"]["coins"] > 0


def test_no_microvm_is_left(game: tuple[str, dict[str, Any]], sdk: Client) -> None:
    _, mods = game
    assert len({row["microvm"] for row in mods.values()}) == 5
    assert {info.id for info in Sandbox.list(client=sdk)}.isdisjoint(row["microvm"] for row in mods.values())


def test_a_mod_that_is_late_is_out(tmp_path: Path, environment: dict[str, str]) -> None:
    """With next to no time even a good mod is late."""
    result = tmp_path / "result.json"
    run_example("mods", environment, "--ticks", "1", "--move-s", "0.0001", "--out", str(result), "walker")
    (row,) = json.loads(result.read_text())
    assert (row["fate"].partition(":")[0], row["ticks"]) == ("time", 0)
