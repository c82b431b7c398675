"""A microVM whose agent is lost, on a machine without microVMs, and the real connection that is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.guest.agent import Agent
from emberbox.guest.output import DropOutput
from emberbox.guest.protocol import HEADER_BYTES, PROTOCOL_VERSION, Frame, FrameType, decode_header, encode, encode_u32
from emberbox.model.states import MicrovmState
from emberbox.vmm.channel import dial_unix
from support.fake_world import World

RUNNING, TERMINATED = MicrovmState.RUNNING, MicrovmState.TERMINATED


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(tmp_path, monkeypatch)
    yield world
    await world.close()


async def as_good_as_new(world: World, runner: MicrovmRunner) -> None:
    assert await world.check(runner) is RUNNING
    await runner.suspend()
    assert await world.memory(runner, 9) == 9


async def test_an_agent_that_is_lost_is_found_again(world: World) -> None:
    """And after that the microVM can be suspended like any other, with all it had; twice, for it may happen again."""
    runner = await world.launched()
    for _ in range(2):
        world.machine.agents[-1].lose()
        await as_good_as_new(world, runner)


async def test_a_microvm_whose_agent_is_lost_for_good_ends_and_says_so(world: World) -> None:
    runner = await world.launched()
    world.script.begin(dict.fromkeys(range(20), world.script.fail))
    world.machine.agents[-1].lose("the guest broke the protocol")
    assert await world.check(runner) is TERMINATED
    told = "The MicroVM's agent does not answer any more: the guest broke the protocol"
    assert world.row(runner).state_reason == told


async def test_a_guest_that_breaks_the_protocol_again_and_again_is_not_looked_for_for_ever(world: World) -> None:
    runner = await world.launched()
    for _ in range(5):
        world.machine.agents[-1].lose()
        assert await world.check(runner) is RUNNING
    world.machine.agents[-1].lose()
    assert await world.check(runner) is TERMINATED


async def test_a_vmm_that_ends_is_what_is_told_though_its_agent_is_lost_first(world: World) -> None:
    runner = await world.launched()
    vm = world.vm(runner)
    world.machine.agents[-1].lose()
    asyncio.get_running_loop().call_soon(vm.die)
    assert await world.check(runner) is TERMINATED
    assert world.row(runner).state_reason == "The microVM's VMM ended unexpectedly: QEMU was killed by SIGKILL"


async def test_an_application_that_could_not_be_let_run_on_is(world: World) -> None:
    """A checkpoint whose thaw fails leaves it frozen, but for a moment."""
    runner = await world.launched()
    await world.take_checkpoint(runner)
    thaw = world.script.steps.index("agent.thaw", world.script.steps.index("agent.freeze"))
    begun = world.script.steps.index("thread.link_root")
    world.script.begin({thaw - begun: world.script.fail})
    with contextlib.suppress(Exception):
        await world.take_checkpoint(runner)
    assert world.script.steps[thaw - begun] == "agent.thaw"
    await as_good_as_new(world, runner)


@contextlib.asynccontextmanager
async def connection(path: Path) -> AsyncIterator[tuple[Agent, asyncio.StreamWriter]]:
    """Return an agent's connection, and the other end of it."""
    writers: list[asyncio.StreamWriter] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        length, _, _ = decode_header(await reader.readexactly(HEADER_BYTES))
        nonce = await reader.readexactly(length)
        writer.write(encode(Frame(FrameType.HELLO, 0, nonce + encode_u32(PROTOCOL_VERSION))))

    server = await asyncio.start_unix_server(greet, path)
    try:
        agent = await Agent.connect(await dial_unix(path), DropOutput(), 10)
        yield agent, writers[0]
        await agent.close()
    finally:
        for writer in writers:
            writer.close()
        server.close()


@pytest.mark.parametrize("last_words", [b"", b"\xff" * 64])
async def test_a_connection_that_ends_or_lies_is_lost(tmp_path: Path, last_words: bytes) -> None:
    async with connection(tmp_path / "agent.sock") as (agent, guest):
        assert not agent.lost.done()
        guest.write(last_words)
        guest.close()
        async with asyncio.timeout(10):
            assert str(await agent.lost)


async def test_a_connection_that_was_closed_is_not_lost(tmp_path: Path) -> None:
    async with connection(tmp_path / "agent.sock") as (agent, _):
        await agent.close()
        await asyncio.sleep(0.05)
        assert not agent.lost.done()
