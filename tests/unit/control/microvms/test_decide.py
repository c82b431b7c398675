"""What becomes of each message to an owner, in each state, behind each other message."""

from __future__ import annotations

import itertools

import pytest

from emberbox.control.microvms.decide import Decision, Wanted, decide
from emberbox.model.states import VERDICTS, Action, MicrovmState, Verdict

ACCEPT, JOIN, IGNORE, REFUSE = Decision
LIVE = (MicrovmState.PENDING, MicrovmState.RUNNING, MicrovmState.SUSPENDING, MicrovmState.SUSPENDED)
SHARED = {Wanted.SUSPEND, Wanted.SAVE, Wanted.RESUME, Wanted.WAKE, Wanted.HEAR}


def expected(state: MicrovmState, queued: Wanted | None, wanted: Wanted) -> Decision:
    """Say the same in other words: by what is wanted, not by a table."""
    if wanted is Wanted.TERMINATE:
        return ACCEPT if state in LIVE else IGNORE
    if queued is not None:
        if wanted is Wanted.SUSPEND_IDLE:
            return IGNORE
        return JOIN if queued is wanted and wanted in SHARED else ACCEPT
    match wanted:
        case Wanted.LAUNCH:
            return ACCEPT if state in (MicrovmState.PENDING, MicrovmState.TERMINATING) else IGNORE
        case Wanted.TAKE_OVER:
            return IGNORE if state in (MicrovmState.PENDING, MicrovmState.TERMINATED) else ACCEPT
        case Wanted.SUSPEND | Wanted.SUSPEND_IDLE | Wanted.SAVE:
            return ACCEPT if state is MicrovmState.RUNNING else IGNORE
        case Wanted.RESUME | Wanted.WAKE | Wanted.HEAR:
            return ACCEPT if state is MicrovmState.SUSPENDED else IGNORE
        case Wanted.CHECKPOINT | Wanted.ROLL_BACK:
            return ACCEPT if state in (MicrovmState.RUNNING, MicrovmState.SUSPENDED) else REFUSE
        case _:  # it looks for itself at what is there
            return ACCEPT


@pytest.mark.parametrize("wanted", Wanted)
def test_every_message_is_decided_in_each_state_behind_each_other(wanted: Wanted) -> None:
    for state, queued in itertools.product(MicrovmState, (None, *Wanted)):
        assert decide(state, queued, wanted) is expected(state, queued, wanted), (state, queued)


@pytest.mark.parametrize(("state", "action"), list(itertools.product(MicrovmState, Action)))
def test_an_owner_does_what_a_caller_is_told_that_is_done(state: MicrovmState, action: Action) -> None:
    """And nothing of what a caller is told that changes nothing."""
    decision = decide(state, None, Wanted(action.value))
    match VERDICTS[state, action]:
        case Verdict.DO:
            assert decision is ACCEPT
        case Verdict.IGNORE:
            assert decision is IGNORE
        case _:
            assert decision in (IGNORE, REFUSE)


def test_no_end_is_lost_behind_anything() -> None:
    for state, queued in itertools.product(MicrovmState, Wanted):
        assert decide(state, queued, Wanted.TERMINATE) is decide(state, None, Wanted.TERMINATE)
        assert decide(state, queued, Wanted.END) is decide(state, queued, Wanted.LOSE) is ACCEPT
