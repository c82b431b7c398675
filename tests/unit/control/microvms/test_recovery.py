"""What becomes of microVMs when a server starts: every state of the row, with every state of the machine."""

from __future__ import annotations

import itertools

import pytest

from emberbox.control.microvms.recovery import FATES, Fate
from emberbox.model.states import MicrovmState


def test_every_state_and_what_can_be_found_is_decided() -> None:
    assert set(FATES) == set(
        itertools.product(set(MicrovmState) - {MicrovmState.TERMINATED}, (False, True), (False, True))
    )


@pytest.mark.parametrize("state", [MicrovmState.RUNNING, MicrovmState.SUSPENDING, MicrovmState.SUSPENDED])
def test_nothing_is_lost_that_runs_or_is_saved(state: MicrovmState) -> None:
    assert FATES[state, True, True] is FATES[state, True, False] is Fate.KEEP_SUSPENDED
    assert FATES[state, False, True] is Fate.ADOPT
    assert FATES[state, False, False] is Fate.LOSE


def test_an_end_under_way_is_finished_whatever_is_found() -> None:
    fates = {fate for (state, _, _), fate in FATES.items() if state is MicrovmState.TERMINATING}
    assert fates == {Fate.END}
