"""Which engines the saved state of a home is of."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

_SAVED = ("images/*/*/snapshot.json", "microvms/*/suspended.json", "microvms/*/base/snapshot.json")


def count_saved(home: Path) -> Counter[str]:
    """Return how many snapshots and suspended microVMs in a home were made with each accelerator, where they say so."""
    found: Counter[str] = Counter()
    for pattern in _SAVED:
        for path in home.glob(pattern):
            try:
                content = json.loads(path.read_text().partition("\n")[0])
                found[content["engine"]["accelerator"]] += 1
            except (OSError, ValueError, KeyError, TypeError):  # it is of before, or damaged: its load says so
                continue
    return found
