"""The life of a gateway: starting, being wounded, ending."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import stat
from pathlib import Path

import pytest
from gateway_world import DOMAIN, REGION, FakeDirectory, World, start_own, start_world

from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.edges.gateway import server
from emberbox.edges.gateway.server import GatewaySettings
from emberbox.host.supervisor import supervise
from emberbox.model.errors import HostError


def envoy_pid(world: World) -> int:
    pid: int = json.loads((world.gateway.envoy_log_path.parent / "envoy.pid").read_text())["pid"]
    return pid


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_nothing_is_left_when_the_block_ends(tmp_path: Path) -> None:
    before = {task.get_name() for task in asyncio.all_tasks()}
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with start_world(tmp_path) as world:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
        pid, port = envoy_pid(world), world.gateway.port
        assert (await world.request()).status_code == 200
        assert stat.S_IMODE((tmp_path / "gateway").stat().st_mode) == 0o700
    assert not is_running(pid)
    assert not list((tmp_path / "gateway").glob("*.sock"))
    assert not (tmp_path / "gateway/envoy.pid").exists()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks()} - before == set()


async def test_envoy_may_hold_as_many_connections_as_this_process_may_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    try:
        async with start_world(tmp_path) as world:
            assert resource.prlimit(world.envoy_pid(), resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_killed_envoy_is_started_again(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        first = envoy_pid(world)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while True:
                try:
                    async with world.connect() as client:
                        if (await world.request(client=client)).status_code == 200:
                            break
                except Exception:  # noqa: S110  # it is just starting again
                    pass
                await asyncio.sleep(0.02)
        assert envoy_pid(world) != first


async def test_the_same_directory_and_port_serve_again_with_the_same_authority(tmp_path: Path) -> None:
    keys, directory = TokenKeys(tmp_path / "keys.json"), FakeDirectory()
    async with start_own(GatewaySettings(tmp_path / "g", REGION, DOMAIN), directory, keys) as (gateway, _):
        authority = gateway.authority_path.read_bytes()
    again = GatewaySettings(tmp_path / "g", REGION, DOMAIN, port=gateway.port)
    async with start_own(again, directory, keys) as (second, _):
        assert (second.port, second.authority_path.read_bytes()) == (gateway.port, authority)


async def test_a_port_that_another_program_holds_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "supervise", lambda helper: supervise(helper, 1.5))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = GatewaySettings(tmp_path / "g", REGION, DOMAIN, port=taken.getsockname()[1])
        with pytest.raises(HostError, match="Address already in use"):
            async with start_own(settings, FakeDirectory(), TokenKeys(tmp_path / "keys.json")):
                pytest.fail("it cannot serve")


async def test_requests_that_are_held_do_not_hold_the_end(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        world.directory.delay_s = 60
        held = asyncio.create_task(world.request())
        async with asyncio.timeout(60):
            while not world.directory.connects:  # noqa: ASYNC110  # Envoy gives no event
                await asyncio.sleep(0.01)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 5
    await asyncio.gather(held, return_exceptions=True)


async def test_an_authoriser_that_fails_lets_nobody_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start_world(tmp_path) as world:
        monkeypatch.setattr(FakeDirectory, "connect", None)
        answer = await world.request()
        assert (answer.status_code, answer.text) == (502, "")
        assert world.guests["a"].seen == []


async def test_a_gateway_listens_on_ipv6_too(tmp_path: Path) -> None:
    settings = GatewaySettings(tmp_path / "g", REGION, DOMAIN, address="::1")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    async with start_own(settings, FakeDirectory(), TokenKeys(tmp_path / "keys.json")) as (gateway, _):
        _, writer = await asyncio.open_connection("::1", gateway.port)
        writer.close()
