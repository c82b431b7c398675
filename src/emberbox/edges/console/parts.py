"""What the console stands on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp

from emberbox.control.logs.service import LogService
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.server.spending import SpendingService
from emberbox.edges.console.assets import Assets
from emberbox.edges.console.attempts import Attempts
from emberbox.edges.console.sessions import Sessions
from emberbox.machine.base import Command, GuestCommand
from emberbox.model.caller import Caller
from emberbox.model.iam.audit import AuditRecord
from emberbox.store.changes import Changes

Json = Mapping[str, Any]  # Any: what JSON has


class Calls(Protocol):
    """The operations of the API, for somebody who has logged in; see `edges/aws/inside.py`."""

    async def call(
        self, caller: Caller, operation: str, document: Json, user_agent: str = ""
    ) -> tuple[int, Any]:  # fmt: skip  # Any: JSON
        """Call an operation and record it; return the HTTP status and the answer."""
        ...

    async def read(self, caller: Caller, operation: str, document: Json) -> Any:  # Any: JSON
        """Call an operation as part of one that was recorded; raises a ServiceError when it is refused."""
        ...

    def authorise(self, caller: Caller, operation: str, document: Json) -> None:
        """Let what is asked for pass; raises a ServiceError when it may not."""
        ...


class Endpoint(Protocol):
    """Runs commands in one microVM."""

    async def open_command(self, command: Command) -> GuestCommand:
        """Start a command; raises Unreachable or GuestError."""
        ...

    def note_bytes(self, *, from_client: bool) -> None:
        """Take note that somebody uses it."""
        ...


class Directory(Protocol):
    """Finds endpoints."""

    def find(self, microvm_id: str) -> Endpoint | None:
        """Return the endpoint of a microVM; None when it has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the console stands on.

    Args:
        calls: the operations of the API.
        sessions: who has logged in.
        attempts: how often logins failed.
        record: takes audit records.
        assets: the page.
        changes: says which rows have changed.
        microvms: the service of that name.
        logs: the service of that name.
        spending: the service of that name.
        runners: where microVMs that run are measured.
        directory: where commands are run in them.
        data_plane: makes what serves shells and files of a microVM.
        region: the region played.
        url: how people reach the console, where it is not what they type; empty where it is.
    """

    calls: Calls
    sessions: Sessions
    attempts: Attempts
    record: Callable[[AuditRecord], None]
    assets: Assets
    changes: Changes
    microvms: MicrovmService
    logs: LogService
    spending: SpendingService
    runners: Runners
    directory: Directory
    data_plane: Callable[[str], ASGIApp]
    region: str
    url: str = ""
