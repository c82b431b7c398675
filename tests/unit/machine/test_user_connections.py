"""User networks: who answers names, and ports that are carried to the guest by its agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.byte_streams import SocketStream
from emberbox.host import names
from emberbox.machine.connections import Carry, UserConnection
from emberbox.model.egress import NO_EGRESS, EgressPolicy

QUERY = bytes(12)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[UserConnection]:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    connection = UserConnection(tmp_path / "resolv.conf")
    yield connection
    await connection.release()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name servers that are asked; all answer."""
    asked: list[str] = []

    async def ask(server: str, _port: int, query: bytes) -> bytes:
        asked.append(server)
        return query

    monkeypatch.setattr(names, "_ask", ask)
    return asked


async def test_names_are_answered_as_the_policy_has_it(
    connection: UserConnection, asked: list[str], tmp_path: Path
) -> None:
    """The host's, then another that resolv.conf has come to name, a connector's own, the host's again, and nobody."""
    assert connection.names is not None
    assert await connection.names.answer(QUERY) == QUERY
    (tmp_path / "resolv.conf").write_text("nameserver ::1\n")
    assert await connection.names.answer(QUERY) == QUERY
    for policy in (EgressPolicy(("10.0.0.0/8",), False, None, "10.0.0.53"), EgressPolicy((), True, None, None)):
        await connection.restrict(policy)
        assert await connection.names.answer(QUERY) == QUERY
    await connection.restrict(NO_EGRESS)
    refused = await connection.names.answer(QUERY)
    assert refused is not None
    assert refused[3] == 5
    assert asked == ["192.0.2.53", "::1", "10.0.0.53", "::1"]


async def test_those_who_ask_together_are_given_one_listener(connection: UserConnection) -> None:
    places = await asyncio.gather(*(connection.relay(port) for port in (8082, 8082, 8083, 8082)))
    assert len(set(places)) == 2
    assert places[0] == places[1] == places[3]


async def test_a_carried_port_leads_to_the_guest_that_runs_now(connection: UserConnection) -> None:
    """Before there is one, and after it: what was listened for once is listened for on."""
    place = await connection.relay(8082)
    assert await connection.relay(8082) == place
    assert await ask(place) == b""
    for guest in (b"first", b"second"):
        connection.carry = carrier(guest)
        assert await ask(place) == guest + b" 8082"
    await connection.release()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*place)


def carrier(guest: bytes) -> Carry:
    async def carry(port: int, client: SocketStream) -> None:
        await client.write(guest + b" %d" % port)
        await client.flush()

    return carry


async def ask(place: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*place)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
