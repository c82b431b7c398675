"""What all runners share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emberbox.control.access.role_sessions import IssueCredentials
from emberbox.control.logs.sink import LogSink
from emberbox.control.microvms.timers import Timers
from emberbox.host.space import DiskSpace
from emberbox.machine.guests import GuestHost
from emberbox.machine.pool import WarmPool
from emberbox.machine.snapshot import ImageSnapshot
from emberbox.model.egress import EgressPolicy
from emberbox.store.microvms import MicrovmStore


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What every runner needs.

    Args:
        store: the rows.
        guests: starts guests.
        log_writer: takes the applications' output.
        home: the state directory; microVMs live under `microvms`.
        timers: the deadlines of all microVMs.
        load_snapshot: returns the snapshot of an image version, by image id and version.
        image_tags: returns the tags that an image has now, by its id.
        on_ended: called with the microVM's id when it is TERMINATED.
        find_egress: returns what egress connectors allow, by account and ARNs.
        issue_credentials: makes the credentials of an execution role.
        revoke: takes back that requests for a microVM may reach it without being asked about.
        drain: does so, and waits for a second at most until the requests that have just begun on it have ended.
        pool: microVMs that are prepared.
        space: the room on the disk.
    """

    store: MicrovmStore
    guests: GuestHost
    log_writer: LogSink
    home: Path
    timers: Timers
    load_snapshot: Callable[[str, str], ImageSnapshot]
    image_tags: Callable[[str], Mapping[str, str]]
    on_ended: Callable[[str], None]
    find_egress: Callable[[str, Sequence[str]], EgressPolicy | None]
    issue_credentials: IssueCredentials
    revoke: Callable[[str], None]
    drain: Callable[[str], Awaitable[None]]
    pool: WarmPool
    space: DiskSpace
