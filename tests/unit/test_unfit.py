"""Tables of tests that cannot run somewhere."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

from kvm_lane.record import UNFIT
from support.unfit import GVISOR, skip_unfit

ROOT = Path(__file__).resolve().parents[2]
NAMED = [test for table in (GVISOR, UNFIT) for test in tomllib.loads(table.read_text())["tests"]]


class Item:
    """As much of a test as is asked for."""

    def __init__(self, nodeid: str, *fixturenames: str) -> None:
        self.nodeid, self.fixturenames = nodeid, fixturenames
        self.reason: str | None = None

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.reason = marker.kwargs["reason"]


@pytest.mark.parametrize("test", NAMED)
def test_every_test_that_is_named_exists(test: str) -> None:
    file, _, name = test.partition("[")[0].partition("::")
    assert f"def {name}(" in (ROOT / file).read_text() if name else (ROOT / file).exists()


@pytest.mark.parametrize("table", [GVISOR, UNFIT])
def test_every_fixture_that_is_named_exists(table: Path) -> None:
    conftest = (ROOT / "tests/conftest.py").read_text()
    assert all(f"def {name}(" in conftest for name in tomllib.loads(table.read_text())["fixtures"])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item("a.py::test_one[x]"), "there: by test"),
        (Item("b.py::test_one"), "there: by file"),
        (Item("c.py::test_one[y]"), "there: by parameter"),
        (Item("c.py::test_one[z]"), None),
        (Item("d.py::test_one", "server", "slow"), "there: by fixture"),
        (Item("d.py::test_one", "server"), None),
    ],
)
def test_what_a_table_names_is_skipped_with_its_reason(item: Item, reason: str | None, tmp_path: Path) -> None:
    table = tmp_path / "unfit.toml"
    table.write_text(
        '[fixtures]\nslow = "by fixture"\n[tests]\n"a.py::test_one" = "by test"\n"b.py" = "by file"\n'
        '"c.py::test_one[y]" = "by parameter"\n'
    )
    skip_unfit(cast("Any", [item]), table, "there")
    assert item.reason == reason
