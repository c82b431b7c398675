"""What this process answers at the addresses of slots; the namespaces are this machine's own here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.byte_streams import SocketStream
from emberbox.host.network import listeners as listeners_module
from emberbox.host.network.listeners import SlotListeners
from emberbox.host.network.netns import NamespaceThread
from emberbox.host.network.slots import Slot
from emberbox.host.ports import free_port
from emberbox.model.errors import HostError
from support.ports import accepts

SLOT = Slot(3, "emberbox-0-3", "eb0-3", "198.18.0.6", "198.18.0.7")


class HereThread(NamespaceThread):
    """Binds on this machine's loopback, a moment later."""

    async def bind(self, slot: Slot, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        await asyncio.sleep(0.01)
        bound = socket.socket(socket.AF_INET, kind)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError as error:
            bound.close()
            raise HostError(str(error)) from error
        return bound


class Rules:
    """Takes rules; fails as often as it is told to."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.failures = 0

    async def apply(self, rules: str, _namespace: str) -> None:
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise HostError("nft failed")
        self.applied.append(rules)


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    rules = Rules()
    monkeypatch.setattr(listeners_module, "apply_rules", rules.apply)
    return rules


@pytest.fixture
async def listeners(tmp_path: Path) -> AsyncIterator[SlotListeners]:
    thread = HereThread()
    listeners = SlotListeners(thread, tmp_path / "resolv.conf")
    yield listeners
    listeners.close()
    thread.close()


async def serve(stream: SocketStream) -> None:
    stream.close()


async def test_first_requests_that_come_together_share_a_listener(listeners: SlotListeners, rules: Rules) -> None:
    port = free_port()
    await asyncio.gather(*(listeners.relay(SLOT, port, serve) for _ in range(8)))
    assert await accepts(port)
    assert len(rules.applied) == 1
    assert list(listeners.relayed(SLOT)) == [port]


async def test_a_port_that_could_not_be_relayed_is_tried_anew(listeners: SlotListeners, rules: Rules) -> None:
    port, rules.failures = free_port(), 1
    with pytest.raises(HostError, match="nft failed"):
        await listeners.relay(SLOT, port, serve)
    assert not listeners.relayed(SLOT)
    assert not await accepts(port)
    await listeners.relay(SLOT, port, serve)
    assert await accepts(port)
