"""Tables of tests that cannot run somewhere, each with the reason; such tests are skipped and the reason is told.

A table has `[tests]`, by file or test (with or without its parameters), and `[fixtures]`, by what a test asks for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

GVISOR = Path(__file__).resolve().parents[1] / "gvisor_unfit.toml"


def find_unfit(items: Iterable[pytest.Item], table: Path) -> Iterator[tuple[pytest.Item, str]]:
    """Return those that a table names, each with the reason."""
    unfit: dict[str, dict[str, str]] = tomllib.loads(table.read_text())
    for item in items:
        if reason := _find_reason(item, unfit):
            yield item, reason


def skip_unfit(items: Iterable[pytest.Item], table: Path, where: str) -> None:
    """Mark those that a table names.

    Args:
        items: the tests.
        table: the file.
        where: in words, what the reason follows: `not in the emulated machine`.
    """
    for item, reason in find_unfit(items, table):
        item.add_marker(pytest.mark.skip(reason=f"{where}: {reason}"))


def _find_reason(item: pytest.Item, unfit: dict[str, dict[str, str]]) -> str | None:
    test = item.nodeid.partition("[")[0]
    reasons = [unfit["tests"].get(name) for name in (item.nodeid, test, test.partition("::")[0])]
    reasons += [unfit["fixtures"].get(name) for name in getattr(item, "fixturenames", ())]
    return next((reason for reason in reasons if reason), None)
