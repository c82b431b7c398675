"""HTTP/1.1 on threads: one for each connection, with deadlines and bounds for what a stranger may hold.

A thread may wait for the disk and hash a gigabyte without holding up anybody else. Contents leave by sendfile.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import h11

from emberbox.s3.errors import ClientGoneError, S3Error
from emberbox.s3.http import Answer, Request
from emberbox.s3.serialise import http_date, serialise_error
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

HEADER_BYTES_MAX: Final = 64 << 10
CONNECTIONS_MAX: Final = 256
HEADER_S: Final = limit_s(20.0)
IDLE_S: Final = limit_s(75.0)
BODY_S: Final = limit_s(60.0)  # without a single byte
_STOP_S: Final = 3.0
_READ_BYTES: Final = 512 << 10
_READ_BYTES_OF_STRANGERS: Final = 32 << 10
_DRAIN_BYTES: Final = 8 << 20
_DRAIN_S: Final = limit_s(10.0)
_BUSY: Final = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Respond = Callable[[Request], Answer]


class Server:
    """Serves a listening socket.

    Args:
        listener: bound and listening.
        respond: answers a request; called in many threads.
    """

    def __init__(self, listener: socket.socket, respond: Respond) -> None:
        self._listener = listener
        self._respond = respond
        self._lock = threading.Lock()
        self._connections: dict[_Connection, threading.Thread] = {}

    def run(self) -> None:
        """Take connections until something is raised, such as by a signal; then let those that are busy finish."""
        try:
            while True:
                peer, address = self._listener.accept()
                self._take(peer, address[0])
        finally:
            self._stop()

    def _take(self, peer: socket.socket, source_ip: str) -> None:
        with self._lock:
            is_busy = len(self._connections) >= CONNECTIONS_MAX
        if is_busy:
            with contextlib.suppress(OSError), peer:
                peer.settimeout(1)
                peer.sendall(_BUSY)
            return
        connection = _Connection(peer, source_ip, self._respond)
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        with self._lock:
            self._connections[connection] = thread
        thread.start()

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve()
        finally:
            with self._lock:
                self._connections.pop(connection, None)

    def _stop(self) -> None:
        self._listener.close()
        with self._lock:
            left = dict(self._connections)
        for connection in left:
            connection.stop()
        deadline = time.monotonic() + _STOP_S
        for thread in left.values():
            thread.join(max(0.0, deadline - time.monotonic()))


class _Sized:
    """Stands for bytes that sendfile sends: h11 only counts them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


class _Connection:
    """One client's connection."""

    def __init__(self, peer: socket.socket, source_ip: str, respond: Respond) -> None:
        self._peer = peer
        self._source_ip = source_ip
        self._respond = respond
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)
        self._is_idle = True
        self._is_stopping = False

    def stop(self) -> None:
        """End it, at once when it is idle, else when the request is answered."""
        self._is_stopping = True
        if self._is_idle:
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer requests until either side has had enough."""
        with self._peer:
            try:
                self._peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._serve_one():
                    self._http.start_next_cycle()
            except (OSError, ClientGoneError, h11.LocalProtocolError) as error:
                log.debug("a connection ended: %s", error)

    def _serve_one(self) -> bool:
        """Answer one request; say whether another one may follow."""
        self._is_idle = True
        try:
            head = self._read_head()
            if head is None:
                return False
            self._is_idle = False
            answer = self._respond(head)
        except h11.RemoteProtocolError as error:
            self._is_idle = False
            refused = S3Error("InvalidRequest", f"The request is no HTTP/1.1: {error}")
            answer = serialise_error(refused, "", "")
            if self._http.our_state is not h11.IDLE and self._http.our_state is not h11.SEND_RESPONSE:
                return False
        self._send(answer)
        return self._drain() and not self._is_stopping

    # --- reading

    def _read_head(self) -> Request | None:
        """Wait for a request; None when none comes."""
        deadline = time.monotonic() + IDLE_S
        has_begun = False
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = self._receive(deadline, _READ_BYTES_OF_STRANGERS)
            except TimeoutError:
                return None
            if data and not has_begun:
                has_begun, deadline = True, time.monotonic() + HEADER_S
            self._http.receive_data(data)
        if not isinstance(event, h11.Request):
            return None
        headers: dict[str, str] = {}
        for raw_name, raw_value in event.headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        target = event.target.decode("latin-1")
        if not target.startswith("/"):
            parts = urlsplit(target)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path, _, query = target.partition("?")
        return Request(event.method.decode("latin-1").upper(), path, query, headers, self._read_body, self._source_ip)

    def _read_body(self) -> Iterator[bytes]:
        try:
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                self._peer.sendall(self._http.send(go_on) or b"")
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(self._receive(time.monotonic() + BODY_S))
                elif isinstance(event, h11.Data):
                    yield event.data
                elif isinstance(event, h11.EndOfMessage):
                    return
                else:
                    raise ClientGoneError
        except TimeoutError:
            raise S3Error("RequestTimeout") from None
        except h11.RemoteProtocolError:
            raise S3Error("IncompleteBody") from None
        except OSError as error:
            raise ClientGoneError from error

    def _receive(self, deadline: float, most: int = _READ_BYTES) -> bytes:
        self._peer.settimeout(max(0.001, deadline - time.monotonic()))
        return self._peer.recv(most)

    def _drain(self) -> bool:
        """Read what of the request nobody wanted; say whether that was all of it."""
        if self._http.our_state is not h11.DONE:
            self._linger()
            return False
        deadline, left = time.monotonic() + _DRAIN_S, _DRAIN_BYTES
        while self._http.their_state is h11.SEND_BODY:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = self._receive(deadline, _READ_BYTES_OF_STRANGERS)
                left -= len(data)
                if left < 0 or not data:
                    self._linger()
                    return False
                self._http.receive_data(data)
        return self._http.their_state is h11.DONE

    def _linger(self) -> None:
        """Say that this is all, and give the client a moment to read it: closing at once would reset it away."""
        with contextlib.suppress(OSError):
            self._peer.shutdown(socket.SHUT_WR)
            deadline, left = time.monotonic() + 2, _DRAIN_BYTES
            while left > 0 and (data := self._receive(deadline, _READ_BYTES_OF_STRANGERS)):
                left -= len(data)

    # --- writing

    def _send(self, answer: Answer) -> None:
        content = answer.content
        try:
            headers = [("Date", http_date(datetime.now(UTC))), *answer.headers.items()]
            size = content.size if content is not None else len(answer.body)
            if answer.status not in (204, 304):
                headers.append(("Content-Length", str(size if answer.length is None else answer.length)))
            if self._is_stopping or self._http.they_are_waiting_for_100_continue:
                headers.append(("Connection", "close"))
            encoded = [(name.encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers]
            reason = HTTPStatus(answer.status).phrase.encode()  # botocore does not understand a status without one
            said = self._http.send(h11.Response(status_code=answer.status, headers=encoded, reason=reason)) or b""
            self._peer.settimeout(BODY_S)
            if content is None:
                if answer.body:
                    said += self._http.send(h11.Data(data=answer.body)) or b""
                self._peer.sendall(said + (self._http.send(h11.EndOfMessage()) or b""))
                return
            self._peer.sendall(said)
            for path, offset, length in content.pieces:
                passed: Any = h11.Data(data=_Sized(length))  # type: ignore[arg-type]  # only its length is looked at
                self._http.send_with_data_passthrough(passed)
                with path.open("rb") as file:
                    if self._peer.sendfile(file, offset, length) != length:
                        raise OSError(f"{path} is shorter than it was")
            self._http.send(h11.EndOfMessage())
        finally:
            if content is not None:
                content.release()
