"""What may be asked of a machine about one microVM, and when: every machine holds this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from emberbox.model.errors import VmmError

NEEDS_VMM: Final[Mapping[str, bool | None]] = {
    # call: True where the microVM must run, False where it must not, None where that is all the same
    "launch": False,
    "resume": False,
    "take_over": False,
    "call_hook": True,
    "suspend": True,
    "end": None,
    "look": None,
    "settle": None,
    "restrict": True,
    "wait_end": True,
    "wait_stalled": True,
    "go_on": True,
    "reconnect": True,
    "reach": True,
    "open_command": True,
    "has_undelivered": None,
    "measure": None,
    "take": None,
    "prepare_rollback": None,
    "roll_back": None,
}


def check(call: str, microvm_id: str, *, runs: bool) -> None:
    """Hold a call against the table.

    Args:
        call: the method of `Machine` or `Checkpoints`.
        microvm_id: whom it is about.
        runs: whether the machine has a VMM of it.

    Raises:
        VmmError: it may not be called now.
    """
    needed = NEEDS_VMM[call]
    if needed is not None and needed is not runs:
        raise VmmError(f"the MicroVM {microvm_id} {'runs already' if runs else 'does not run'}")
