"""The host's TCP connections to an address, as the kernel tells of them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from emberbox.host.tcp import end_connections, find_connections

ADDRESS = "127.0.0.77"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection to the address, and its other end."""
    with socket.create_server((ADDRESS, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        with client, served:
            yield client, served


def test_connections_to_the_address_are_found_and_no_others(pair: tuple[socket.socket, socket.socket]) -> None:
    client, served = pair
    (found,) = find_connections(ADDRESS)
    assert (found.source, found.source_port) == client.getsockname()
    assert found.port == served.getsockname()[1]
    assert found.undelivered == 0
    assert find_connections("127.0.0.78") == []


def test_what_the_other_end_has_not_taken_is_undelivered(pair: tuple[socket.socket, socket.socket]) -> None:
    client, _ = pair
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            client.send(bytes(1 << 16))
    assert find_connections(ADDRESS)[0].undelivered > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may end connections")
def test_an_ended_connection_is_reset_on_both_sides_and_only_once(pair: tuple[socket.socket, socket.socket]) -> None:
    found = find_connections(ADDRESS)
    end_connections(found)
    for end, error in zip(pair, (errno.ECONNABORTED, errno.ECONNRESET), strict=True):
        with pytest.raises(OSError, match=os.strerror(error)):
            end.recv(1)
    assert find_connections(ADDRESS) == []
    end_connections(found)
