"""What becomes of a message to the owner of a microVM: one table, asked twice.

At the door (`queued` is the last message in front of it, or the one that is dealt with) and again when its turn comes
(then nothing is in front of it any more, and the state says what those before it have made of the microVM):

    message ──► decide(state, queued, wanted) ──► ACCEPT ──► line ──► decide(state, None, wanted) ──► ACCEPT: done
                        │                                                    └──► IGNORE, REFUSE
                        └──► JOIN: the same answer as the one in front; IGNORE: nothing to do; REFUSE: a conflict

What a caller of the API may ask in which state is `VERDICTS` in `model/states.py`, which the operations go by before
they ask the owner; here it is said what the owner does with what comes to him, from whomever.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from emberbox.model.states import MicrovmState


class Wanted(StrEnum):
    """What a message wants; who sends it is in brackets."""

    LAUNCH = "launch"  # (RunMicrovm, ForkMicrovm, the start of a server)
    TAKE_OVER = "take over"  # go on with an earlier server's VMM (the start of a server)
    SUSPEND = "suspend"  # (SuspendMicrovm)
    SUSPEND_IDLE = "suspend as it is idle"  # (the timer of its idle policy)
    SAVE = "save"  # suspend it, or let nothing go on (the stop of a server)
    RESUME = "resume"  # (ResumeMicrovm)
    WAKE = "wake"  # resume it where its policy says so (a request at its endpoint)
    HEAR = "hear"  # resume it for bytes that it has not received (what crosses its endpoint)
    CHECKPOINT = "checkpoint"  # (SnapshotMicrovm, ForkMicrovm)
    ROLL_BACK = "roll back"  # (RestoreMicrovm)
    RESTRICT = "restrict"  # let what its connector allows now count (UpdateNetworkConnector)
    TERMINATE = "terminate"  # (TerminateMicrovm, its deadlines): it is TERMINATING at once, END follows
    END = "end"  # free what it has (TERMINATE, the start of a server)
    LOSE = "lose"  # its VMM or its application has ended (the watch)
    FIND_AGENT = "find the agent"  # its agent is lost (the watch)
    GO_ON = "go on"  # there is room on the disk again (the watch)


class Decision(StrEnum):
    """What becomes of a message."""

    ACCEPT = "accept"
    JOIN = "join"
    IGNORE = "ignore"
    REFUSE = "refuse"


_W, _S = Wanted, MicrovmState
_A, _I, _R = Decision.ACCEPT, Decision.IGNORE, Decision.REFUSE

_STATES: Final = (_S.PENDING, _S.RUNNING, _S.SUSPENDING, _S.SUSPENDED, _S.TERMINATING, _S.TERMINATED)

_TURNS: Final[Mapping[Wanted, tuple[Decision, ...]]] = {
    #           PENDING RUNNING SUSPENDING SUSPENDED TERMINATING TERMINATED
    _W.LAUNCH: (_A, _I, _I, _I, _A, _I),  # TERMINATING: END, which comes next, frees what it has got
    _W.TAKE_OVER: (_I, _A, _A, _A, _A, _I),
    _W.SUSPEND: (_I, _A, _I, _I, _I, _I),
    _W.SUSPEND_IDLE: (_I, _A, _I, _I, _I, _I),
    _W.SAVE: (_I, _A, _I, _I, _I, _I),
    _W.RESUME: (_I, _I, _I, _A, _I, _I),
    _W.WAKE: (_I, _I, _I, _A, _I, _I),
    _W.HEAR: (_I, _I, _I, _A, _I, _I),
    _W.CHECKPOINT: (_R, _A, _R, _A, _R, _R),
    _W.ROLL_BACK: (_R, _A, _R, _A, _R, _R),
    _W.RESTRICT: (_A, _A, _A, _A, _A, _A),
    _W.TERMINATE: (_A, _A, _A, _A, _I, _I),
    _W.END: (_A, _A, _A, _A, _A, _A),
    _W.LOSE: (_A, _A, _A, _A, _A, _A),  # these three are about one run of it: whether that goes on is seen then
    _W.FIND_AGENT: (_A, _A, _A, _A, _A, _A),
    _W.GO_ON: (_A, _A, _A, _A, _A, _A),
}
"""What is done with a message that has nothing in front of it."""

_SHARED: Final = frozenset({_W.SUSPEND, _W.SAVE, _W.RESUME, _W.WAKE, _W.HEAR})
"""Who wants the same as the one just in front gets the same answer: many requests wake it once."""

_NOT_IN_LINE: Final[Mapping[Wanted, Decision]] = {_W.SUSPEND_IDLE: _I}
"""Something happens to it, so it is not idle."""

_AT_ONCE: Final = frozenset({_W.TERMINATE})
"""What does not wait for its turn: the state alone says whether it is new."""


def decide(state: MicrovmState, queued: Wanted | None, wanted: Wanted) -> Decision:
    """Say what becomes of a message.

    Args:
        state: the microVM's.
        queued: what the last message in front of it wants; None when there is none.
        wanted: what it wants.
    """
    if queued is None or wanted in _AT_ONCE:
        return _TURNS[wanted][_STATES.index(state)]
    if queued is wanted and wanted in _SHARED:
        return Decision.JOIN
    return _NOT_IN_LINE.get(wanted, Decision.ACCEPT)  # its turn decides: those in front may change everything
