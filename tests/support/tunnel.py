"""A stream through the endpoint, for the probe image: an upgraded connection whose other end counts lines and echoes.

The gateway passes on what follows an upgrade as it is, so lines of text do.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from emberbox.time_limits import limit_s
from support.guests import PORT_HEADER, TOKEN_HEADER, Microvm
from support.waiting import wait_for

PORT = 9999
_ANSWER_S = limit_s(180.0)
_SERVER = r"""
use Errno;
use IO::Socket::INET;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalPort => 9999, Listen => 16, ReuseAddr => 1);
while (1) {
    my $client = $listener->accept;
    last unless $client or $!{EINTR};    # as a suspend on gVisor ends it
    next if !$client or fork;
    my ($upgrade, $count) = (0, 0);
    while (<$client>) { $upgrade = 1 if /^upgrade:/i; last if /^\r?\n$/ }
    exit unless $upgrade;
    syswrite $client, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    open my $open, '>', "/data/open.$$"; close $open;
    $count++, syswrite $client, "$count $_" while <$client>;
    unlink "/data/open.$$";
    exit;
}
"""


def serve(microvm: Microvm) -> None:
    """Start the other end in a microVM of the probe image."""
    microvm.shell(f"cat > /data/tunnel.pl <<'END'{_SERVER}END\nperl /data/tunnel.pl >/dev/null 2>&1 &")
    listening = f"grep -q ':{PORT:04X} 00000000:0000 0A' /proc/net/tcp"
    wait_for("it listens", lambda: microvm.shell_code(listening) == 0, 20)


def count_open(microvm: Microvm) -> int:
    """Return how many tunnels the processes in the guest hold open."""
    return int(microvm.shell("ls /data | grep -c '^open'"))


class Tunnel:
    """The client's end."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._count = 0

    def read_head(self) -> str:
        """Return the answer's first line, and read over the rest of its head."""
        first = self._lines.readline()
        while self._lines.readline().strip():
            pass
        return first.decode().strip()

    def ask(self, word: str) -> None:
        """Send a line; the answer must have the number that is next on this connection."""
        self._count += 1
        self._connection.sendall(f"{word}\n".encode())
        assert self._lines.readline().decode() == f"{self._count} {word}\n"

    def assert_closed(self, timeout_s: float = 20.0) -> None:
        """Check that this end is told, without sending anything."""
        self._connection.settimeout(limit_s(timeout_s))
        with suppress(ConnectionError, ssl.SSLError):  # a reset tells it as well; a time-out does not
            assert self._connection.recv(1) == b""


@contextmanager
def open_tunnel(microvm: Microvm) -> Iterator[Tunnel]:
    """Open one."""
    endpoints = microvm.gateway.server.endpoints
    host, _, port = endpoints["gateway"].rpartition(":")
    trust = ssl.create_default_context(cafile=endpoints["ca_bundle"])
    name = microvm.endpoint.partition(":")[0]
    head = {
        "Host": microvm.endpoint,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        TOKEN_HEADER: microvm.mint(),
        PORT_HEADER: str(PORT),
    }
    with (
        socket.create_connection((host, int(port)), _ANSWER_S) as plain,
        trust.wrap_socket(plain, server_hostname=name) as connection,
    ):
        lines = "".join(f"{header}: {value}\r\n" for header, value in head.items())
        connection.sendall(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
        tunnel = Tunnel(connection)
        assert tunnel.read_head().startswith("HTTP/1.1 101")
        yield tunnel
