"""Which engines the saved state of a home is of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from emberbox.model.engines import ARM64_ENGINE
from emberbox.vmm.engine import Engine

_SAVED = ("images/*/*/snapshot.json", "microvms/*/suspended.json", "microvms/*/base/snapshot.json")


def count_saved(home: Path) -> Counter[str]:
    """Return how many snapshots and suspended microVMs in a home were made with each accelerator, where they say so.

    Those for another architecture say nothing of what the machine's own guests run with.
    """
    return Counter(engine.accelerator for engine in _saved(home) if engine.name != ARM64_ENGINE)


def find_saved_names(home: Path) -> set[str]:
    """Return the names of the engines that these were made with."""
    return {engine.name for engine in _saved(home)}


def _saved(home: Path) -> Iterator[Engine]:
    for pattern in _SAVED:
        for path in home.glob(pattern):
            try:
                yield Engine.from_json(json.loads(path.read_text().partition("\n")[0])["engine"])
            except (OSError, ValueError, KeyError, TypeError):  # it is of before, or damaged: its load says so
                continue
