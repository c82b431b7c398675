"""What crosses the endpoints now: Envoy's reports, and what the authoriser has let pass.

    Envoy ──► lines in a FIFO ──► Traffic ──► bytes moved (the idle policy), connections open (their limit),
                                              requests under way (a suspend waits for the young ones)

Envoy writes a line when a request ends, every second while it lasts, and when a connection closes:

    stream <kind of report> <microVM:port> <request id> <bytes in> <bytes out> <response flags> <admission or ->
    closed <connection>

Lines may be lost when this process is killed. So nothing is counted that could not be forgotten: a connection that
is not known needs no closing, and a request counts as under way for a moment only.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)

YOUNG_REQUEST_S: Final = 1.0
_PIPE_BYTES: Final = 1 << 20
_CLOSED_CONNECTIONS: Final = 4096
_LAST_REPORT: Final = "DownstreamEnd"
# The guest's port could not be connected to, or did not speak what was expected of it.
_FAILURES: Final = frozenset({"UF", "UC", "UPE"})


class NoteBytes(Protocol):
    """Takes note that bytes have crossed an endpoint."""

    def __call__(self, microvm_id: str, *, from_client: bool) -> None:
        """See `Endpoint.note_bytes`."""
        ...


class Traffic:
    """Counts what is open and tells what has moved. Belongs to one event loop.

    Args:
        on_bytes: called when bytes have crossed an endpoint, with the microVM's id and whether some were the client's.
        on_failure: called with a microVM's id and port when a connection to it has failed.
        admissions: know of the requests that nobody was asked about.
    """

    def __init__(self, on_bytes: NoteBytes, on_failure: Callable[[str, int], None], admissions: Admissions) -> None:
        self._on_bytes = on_bytes
        self._admissions = admissions
        self._on_failure = on_failure
        self._moved: dict[str, tuple[str, str]] = {}
        self._young: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._finished = asyncio.Event()
        self._connections: defaultdict[str, set[str]] = defaultdict(set)
        self._users: dict[str, set[str]] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._closing = asyncio.Event()

    # --- what the authoriser says

    def begin(self, microvm_id: str, request_id: str) -> None:
        """Take note of a request that passes: it is activity, and under way."""
        now = asyncio.get_running_loop().time()
        young = self._young[microvm_id]
        while young and now - young[oldest := next(iter(young))] > YOUNG_REQUEST_S:  # they are in their order
            del young[oldest]
        young[request_id] = now
        self._on_bytes(microvm_id, from_client=False)  # it has come so far: nothing waits for it to be heard

    async def take_connection(self, microvm_id: str, connection: str, limit: int, patience_s: float) -> bool:
        """Count a client's connection as one of a microVM's, once however often it is used.

        Args:
            microvm_id: whose endpoint it is used for.
            connection: Envoy's number of it.
            limit: how many may be open; 0 is no limit.
            patience_s: how long to wait for others to be reported as closed when there are too many.

        Returns:
            whether it is one of them.
        """
        if not self._has_room(microvm_id, connection, limit):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    while not self._has_room(microvm_id, connection, limit):
                        self._closing.clear()
                        await self._closing.wait()
            if not self._has_room(microvm_id, connection, limit):
                return False
        if connection not in self._closed:
            self._connections[microvm_id].add(connection)
            self._users.setdefault(connection, set()).add(microvm_id)
        return True

    def _has_room(self, microvm_id: str, connection: str, limit: int) -> bool:
        connections = self._connections.get(microvm_id, ())
        return not limit or connection in connections or len(connections) < limit

    # --- what others ask

    async def drain(self, microvm_id: str) -> None:
        """Wait until no request that has begun less than a second ago is under way. Takes a second at most.

        Whatever is held back meanwhile, such as by the runner's lock, stays so: Envoy asks about every request again.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        unasked = await self._admissions.settle(microvm_id)
        while True:
            asked = self._young.get(microvm_id)
            youngest = began if unasked.young() > 0 else max(asked.values()) if asked else -YOUNG_REQUEST_S
            left = youngest + YOUNG_REQUEST_S - loop.time()
            if left <= 0:
                return
            self._finished.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), left)

    def forget_connections(self) -> None:
        """Start from nothing: Envoy has ended, and with it every connection and stream."""
        for counted in (self._moved, self._young, self._connections, self._users, self._closed):
            counted.clear()
        self._admissions.forget()
        self._finished.set()
        self._closing.set()

    # --- what Envoy reports

    def read_line(self, line: str) -> None:
        """Take in one line of Envoy's; one that says nothing to us changes nothing."""
        match line.split(" "):
            case ["stream", kind, target, request_id, received, sent, flags, admission] if ":" in target:
                self._read_stream(kind, target, request_id, (received, sent), flags)
                if admission != "-":
                    note = self._admissions.note_end if kind == _LAST_REPORT else self._admissions.note_lasting
                    note(admission, request_id)
                if kind == _LAST_REPORT:
                    self._finished.set()
            case ["closed", connection]:
                self._close(connection)

    def _read_stream(self, kind: str, target: str, request_id: str, moved: tuple[str, str], flags: str) -> None:
        microvm_id, _, port = target.rpartition(":")
        before = self._moved.get(request_id)
        if moved != before:
            self._on_bytes(microvm_id, from_client=before is None or moved[0] != before[0])
        if kind != _LAST_REPORT:
            self._moved[request_id] = moved
            return
        self._moved.pop(request_id, None)
        if young := self._young.get(microvm_id):
            young.pop(request_id, None)
            if not young:
                del self._young[microvm_id]
        if not _FAILURES.isdisjoint(flags.split(",")):
            self._on_failure(microvm_id, int(port))

    def _close(self, connection: str) -> None:
        for microvm_id in self._users.pop(connection, ()):
            connections = self._connections[microvm_id]
            connections.discard(connection)
            if not connections:
                del self._connections[microvm_id]
        # The report of a connection that was closed at once may come before the authoriser has heard of it.
        self._closed[connection] = None
        if len(self._closed) > _CLOSED_CONNECTIONS:
            self._closed.popitem(last=False)
        self._closing.set()


@contextlib.contextmanager
def read_reports(path: Path, take: Callable[[str], None]) -> Iterator[None]:
    """Read lines from a FIFO for as long as the block lasts.

    Args:
        path: the FIFO; made anew where there is something else. Whoever writes into it may come and go.
        take: called with each whole line, without its end.

    Raises:
        HostError: it cannot be made or opened.
    """
    try:
        if not path.is_fifo():
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # a writer of our own: it never ends
    except OSError as error:
        raise HostError(f"Envoy's reports cannot be read from {path}: {error.strerror}") from error
    with contextlib.suppress(OSError):  # the user's share of pipes may be used up; the default size does too
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    loop = asyncio.get_running_loop()
    rest = b""

    def read() -> None:
        nonlocal rest
        with contextlib.suppress(BlockingIOError):
            *lines, rest = (rest + os.read(pipe, _PIPE_BYTES)).split(b"\n")
            for line in lines:
                take(line.decode("ascii", "replace"))

    loop.add_reader(pipe, read)
    try:
        yield
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
