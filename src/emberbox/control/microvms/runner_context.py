"""What all runners share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from emberbox.control.access.role_sessions import IssueCredentials
from emberbox.control.logs.sink import LogSink
from emberbox.control.microvms.timers import Timers
from emberbox.machine.base import Checkpoints, Machine, Room
from emberbox.model.egress import EgressPolicy
from emberbox.store.microvms import MicrovmStore


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What every runner needs.

    Args:
        store: the rows.
        machine: runs them.
        checkpoints: takes and brings back their instants.
        room: the room on the machine's disk.
        log_writer: takes the applications' output.
        timers: the deadlines of all microVMs.
        image_tags: returns the tags that an image has now, by its id.
        on_ended: called with the microVM's id when it is TERMINATED.
        find_egress: returns what egress connectors allow, by account and ARNs.
        issue_credentials: makes the credentials of an execution role.
        revoke: takes back that requests for a microVM may reach it without being asked about.
        drain: does so, and waits for a second at most until the requests that have just begun on it have ended.
    """

    store: MicrovmStore
    machine: Machine
    checkpoints: Checkpoints
    room: Room
    log_writer: LogSink
    timers: Timers
    image_tags: Callable[[str], Mapping[str, str]]
    on_ended: Callable[[str], None]
    find_egress: Callable[[str, Sequence[str]], EgressPolicy | None]
    issue_credentials: IssueCredentials
    revoke: Callable[[str], None]
    drain: Callable[[str], Awaitable[None]]
