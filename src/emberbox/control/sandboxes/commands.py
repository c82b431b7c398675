"""What is asked of sandboxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from emberbox.control.requests.idempotency import ClientRequest
from emberbox.control.requests.paging import PageRequest
from emberbox.model.sandboxes import LIFE_MAX_S, SandboxState, SandboxTerms


@dataclass(frozen=True, slots=True)
class CreateSandbox:
    """Asks for a new sandbox.

    Args:
        terms: what it is to be.
        client_request: tells a repeat.
        life_s: after so many seconds it ends, paused or not.
    """

    terms: SandboxTerms
    client_request: ClientRequest | None = None
    life_s: int = LIFE_MAX_S


@dataclass(frozen=True, slots=True)
class ListSandboxes:
    """Asks for sandboxes that have not ended.

    Args:
        page: which page.
        metadata: of those that have all of this alone.
        states: in one of these states alone.
        template: of this template alone.
        started_after: launched at this moment or later.
        oldest_first: in that order; else newest first.
        id_prefix: whose ids begin so alone, in whatever case.
        name_prefix: whose names begin so alone, in whatever case; who has none is called by his id.
    """

    page: PageRequest
    metadata: Mapping[str, str] = field(default_factory=dict)
    states: frozenset[SandboxState] = frozenset(SandboxState)
    template: str | None = None
    started_after: datetime | None = None
    oldest_first: bool = False
    id_prefix: str = ""
    name_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ConnectSandbox:
    """Asks for a sandbox to run for some time yet; a paused one is resumed.

    Args:
        sandbox_id: which.
        timeout_s: it ends no earlier than so many seconds from now.
    """

    sandbox_id: str
    timeout_s: int


@dataclass(frozen=True, slots=True)
class ForkSandbox:
    """Asks for sandboxes that go on from this instant of another.

    Args:
        sandbox_id: the other.
        count: how many.
        timeout_s: of each.
    """

    sandbox_id: str
    count: int
    timeout_s: int
