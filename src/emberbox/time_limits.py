"""Every time limit of ours goes through here, so that one variable fits them all to a machine that is much slower.

EMBERBOX_TIME_SCALE (1 by default) is for emulated machines, as in tests/kvm_lane; it is no setting for operators. Times
that a caller chose (hooks, idle policies, tokens) are not limits of ours and are never scaled.
"""

from __future__ import annotations

import os

SCALE = float(os.environ.get("EMBERBOX_TIME_SCALE") or 1)


def limit_s(seconds: float) -> float:
    """Return a time limit, made for an ordinary machine, in seconds of this one."""
    return seconds * SCALE
