"""Commands over the agent's channel: the host's side, against an agent made of a few lines."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from test_agent_connection import FakeAgent, accept_all, connected

from emberbox.guest.protocol import (
    FRAME_PAYLOAD_MAX,
    PROTOCOL_VERSION,
    STREAM_WINDOW_BYTES,
    Command,
    Frame,
    FrameType,
    encode_command,
    encode_u32,
)
from emberbox.guest.streams import STDERR, STDOUT
from emberbox.model.errors import GuestError

COMMAND = Command(("cat",))


async def run_cat(fake: FakeAgent, frame: Frame) -> None:
    """Play `cat`: the input comes back on both outputs, and its end is the end."""
    await accept_all(fake, frame)
    match frame.type:
        case FrameType.EXEC:
            fake.send(Frame(FrameType.OPENED, frame.stream))
        case FrameType.DATA:
            fake.send(Frame(FrameType.WINDOW, frame.stream, encode_u32(len(frame.payload))))
            fake.send(Frame(FrameType.DATA, frame.stream, frame.payload))
            fake.send(Frame(FrameType.ERROR_DATA, frame.stream, frame.payload.upper()))
        case FrameType.EOF:
            fake.send(Frame(FrameType.EXEC_EXITED, frame.stream, encode_u32(7)))
            fake.send(Frame(FrameType.CLOSE, frame.stream, encode_u32(0)))


async def test_a_command_has_two_outputs_an_input_and_an_exit_code(tmp_path: Path) -> None:
    async with connected(tmp_path, run_cat) as (agent, fake):
        command = await agent.open_command(COMMAND)
        await command.write(b"text")
        assert [await command.read(), await command.read()] == [(STDOUT, b"text"), (STDERR, b"TEXT")]
        command.resize(80, 24)
        command.signal(15)
        command.end_input()
        assert await command.read() is None
        assert await command.read() is None
        assert command.exit_code == 7
        command.close()  # which the guest need not hear: it has closed the stream itself
        await agent.freeze()
        assert fake.seen[1].payload == encode_command(COMMAND)
        assert [kind for kind in fake.types() if kind is not FrameType.WINDOW] == [
            FrameType.EXEC,
            FrameType.DATA,
            FrameType.RESIZE,
            FrameType.SIGNAL,
            FrameType.EOF,
            FrameType.FREEZE,
        ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errno.EMFILE, "64 run already"),
        (errno.EAGAIN, "being suspended"),
        (errno.ESRCH, "its application has ended"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
async def test_a_command_that_cannot_start_says_why(tmp_path: Path, error: int, text: str) -> None:
    async def refuse(fake: FakeAgent, frame: Frame) -> None:
        fake.send(Frame(FrameType.CLOSE, frame.stream, encode_u32(error)))

    async with connected(tmp_path, refuse) as (agent, _):
        with pytest.raises(GuestError, match=text):
            await agent.open_command(COMMAND)


async def test_a_command_longer_than_a_frame_is_refused_here(tmp_path: Path) -> None:
    async with connected(tmp_path, run_cat) as (agent, fake):
        with pytest.raises(GuestError, match=rf"the limit is {FRAME_PAYLOAD_MAX}"):
            await agent.open_command(Command(("x" * FRAME_PAYLOAD_MAX,)))
        assert fake.types() == []


async def test_a_freeze_ends_every_stream_here_too(tmp_path: Path) -> None:
    """The guest forgets its streams when it is frozen; where the suspend then fails, nobody may wait for them."""
    async with connected(tmp_path, run_cat) as (agent, _):
        command = await agent.open_command(COMMAND)
        reading = asyncio.create_task(command.read())
        await agent.freeze()
        with pytest.raises(GuestError, match="suspended"):
            await asyncio.wait_for(reading, 20)
        with pytest.raises(GuestError, match="closed"):
            await command.write(b"x")
        await agent.open_command(COMMAND)


async def test_both_outputs_share_one_window(tmp_path: Path) -> None:
    async def flood(fake: FakeAgent, frame: Frame) -> None:
        await run_cat(fake, frame)
        if frame.type is FrameType.EXEC:
            for kind in [FrameType.DATA, FrameType.ERROR_DATA] * (STREAM_WINDOW_BYTES // 131072) + [FrameType.DATA]:
                fake.send(Frame(kind, frame.stream, b"x" * 65536))

    async with connected(tmp_path, flood) as (agent, _):
        await agent.open_command(COMMAND)
        with pytest.raises(GuestError, match="overran a stream's window"):
            await agent.freeze()


async def test_a_guest_that_sends_the_hosts_frames_loses_the_connection(tmp_path: Path) -> None:
    async def confuse(fake: FakeAgent, frame: Frame) -> None:
        await run_cat(fake, frame)
        if frame.type is FrameType.EXEC:
            fake.send(Frame(FrameType.RESIZE, frame.stream, b"\0\0\0\0"))

    async with connected(tmp_path, confuse) as (agent, _):
        await agent.open_command(COMMAND)
        with pytest.raises(GuestError, match="RESIZE, which is the host's to send"):
            await agent.freeze()


async def test_an_older_agent_serves_without_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_agent_connection.PROTOCOL_VERSION", 1)
    async with connected(tmp_path, run_cat) as (agent, _):
        await agent.freeze()
        with pytest.raises(GuestError, match="older Emberbox"):
            await agent.open_command(COMMAND)


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1])
async def test_an_agent_of_an_unknown_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr("test_agent_connection.PROTOCOL_VERSION", version)
    with pytest.raises(GuestError, match=f"speaks version {version}; build its image again"):
        async with connected(tmp_path, run_cat):
            pass
