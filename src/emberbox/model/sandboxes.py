"""Sandboxes: microVMs with a timeout that moves, metadata, variables, and a token for what runs in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from emberbox.model.states import MicrovmState

LIFE_MAX_S: Final = 30 * 86_400
"""After so many seconds a sandbox ends, paused or not: what E2B promises of paused ones."""

TIMEOUT_MAX_S: Final = 86_400
"""The longest timeout that can be asked for at once; it can be moved again and again."""

DEFAULT_TIMEOUT_S: Final = 300


class SandboxState(StrEnum):
    """What a sandbox is shown as."""

    RUNNING = "running"
    PAUSED = "paused"


ENDED: Final = frozenset({MicrovmState.TERMINATING, MicrovmState.TERMINATED})
"""The states of a microVM whose sandbox is no longer there."""


@dataclass(frozen=True, slots=True)
class SandboxTerms:
    """What a sandbox was asked to be.

    Args:
        template: the name of its image, as it was asked for.
        timeout_s: seconds between the last word of a client's and its end.
        metadata: the client's own; lists can be asked by it.
        environment: variables of every command.
        pauses_itself: at the end of its timeout it is paused, not ended.
        resumes_itself: when it has paused itself, a request resumes it.
        is_private: its ports need a token.
        name: a client's own name for it, of which an account has no two at a time; empty where it has none.
        user: whose rights commands have that name no user; empty for the image's.
        moves_with_use: each request to it moves its end, `timeout_s` away.
        deletes_after_s: so long after a pause it ends; 0 lets it stay paused for as long as it lives.
    """

    template: str
    timeout_s: int = DEFAULT_TIMEOUT_S
    metadata: Mapping[str, str] | None = None
    environment: Mapping[str, str] | None = None
    pauses_itself: bool = False
    resumes_itself: bool = False
    is_private: bool = False
    name: str = ""
    user: str = ""
    moves_with_use: bool = False
    deletes_after_s: int = 0

    @property
    def timeout_max_s(self) -> int:
        """The longest timeout that it may have."""
        return LIFE_MAX_S if self.moves_with_use else TIMEOUT_MAX_S


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox, with what counts of its microVM.

    Args:
        id: the microVM's.
        account_id: whose it is.
        terms: what it was asked to be.
        ends_at: when its timeout is over; of a paused one, when that was, or when it ends where it does so by itself.
        is_paused: a client or its timeout has paused it. A microVM that is suspended for other reasons, such as a stop
            of the server, is no paused sandbox: the next request lets it go on.
        microvm_state: of the microVM.
        started_at: when it was launched.
        image_id: of its image.
        image_version: of its image.
    """

    id: str
    account_id: str
    terms: SandboxTerms
    ends_at: datetime
    is_paused: bool
    microvm_state: MicrovmState
    started_at: datetime
    image_id: str
    image_version: str

    @property
    def state(self) -> SandboxState:
        """What it is shown as."""
        return SandboxState.PAUSED if self.is_paused else SandboxState.RUNNING

    @property
    def has_ended(self) -> bool:
        """Whether it is no longer there."""
        return self.microvm_state in ENDED
