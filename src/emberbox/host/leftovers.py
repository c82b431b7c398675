"""What a server that was killed leaves running: VMM processes, found by the logs that they hold open."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from emberbox.process.adoption import end_process, error_logs

log = logging.getLogger(__name__)


def end_leftovers(home: Path, keep: Collection[int]) -> int:
    """Kill every VMM of this home, but those that are taken over, and wait until they are gone.

    Args:
        home: the state directory.
        keep: process ids of the VMMs to keep.

    Returns:
        how many there were.

    Raises:
        HostError: one does not end.
    """
    places = tuple(f"{home.resolve() / name}/" for name in ("microvms", "builds"))
    left = [pid for pid, path in error_logs() if path.startswith(places) and pid not in keep]
    for pid in left:
        end_process(pid)
    if left:
        log.warning("%d VMM processes of an earlier server were ended", len(left))
    return len(left)
