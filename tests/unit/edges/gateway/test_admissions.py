"""Requests that nobody is asked about: which they are, and that revoking is at once and complete."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import SUFFIX, World

from emberbox.edges.gateway.proxy.admissions import SLOTS, Admissions
from emberbox.model.endpoints import EndpointLimits, Upstream
from emberbox.model.errors import HostError

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = ("mvm-a", 8080)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Admissions]:
    made = Admissions(tmp_path / "admissions")
    yield made
    made.close()


def let_pass(admissions: Admissions, name: str, thread: int = 0) -> None:
    """Count a request as Envoy does."""
    slot = int(name.partition(":")[0])
    admissions._numbers[SLOTS * (1 + thread) + slot] += 1


def forge(token: str) -> str:
    """Change the tag in its first character; not all bits of its last one count."""
    head, _, tag = token.rpartition(".")
    return f"{head}.{'B' if tag[0] == 'A' else 'A'}{tag[1:]}"


# --- through the gateway


async def test_a_second_request_like_the_first_is_not_asked_about(world: World) -> None:
    token = world.token()
    async with world.connect() as client:
        for path in ("/a", "/b", "/status/404"):
            answer = await world.request(path, token=token, client=client)
            assert answer.text == "guest a"
    assert world.directory.connects == [ASKED]
    seen = world.guests["a"].seen
    assert [each.target for each in seen] == ["/a", "/b", "/status/404"]
    assert len({each.headers["x-amzn-requestid"] for each in seen}) == 3
    assert not [name for each in seen for name in each.headers if "emberbox" in name or "proxy" in name]


@pytest.mark.parametrize("http2", [False, True])
async def test_what_differs_in_anything_is_asked_about(world: World, http2: bool) -> None:
    token = world.token(allowed_ports=[{"allPorts": {}}])
    world.directory.upstreams["mvm-a", 8081] = Upstream("127.0.0.1", world.guests["b"].port, "mvm-a.1")
    async with world.connect(http2=http2) as client:
        assert (await world.request(token=token, client=client)).text == "guest a"
        other_port = [("x-aws-proxy-port", "8081")]
        assert (await world.request(token=token, client=client, headers=other_port)).text == "guest b"
        assert (await world.request(token=forge(token), client=client)).status_code == 403
        assert (await world.request(token=None, client=client)).status_code == 403
        assert (await world.request(token=token, client=client, host=f"bbbb.{SUFFIX}")).status_code == 403
        twice = [("x-aws-proxy-auth", token)]
        assert (await world.request(token=token, client=client, headers=twice)).status_code == 403
        assert (await world.request(token=world.token("mvm-b"), client=client, host="localhost")).text == "guest b"
        assert (await world.request(token=token, client=client)).text == "guest a"
    assert world.directory.connects == [ASKED, ("mvm-a", 8081), ("mvm-b", 8080)]


async def test_another_connection_is_asked_about(world: World) -> None:
    token = world.token()
    for _ in range(2):
        async with world.connect() as client:
            await world.request(token=token, client=client)
    assert world.directory.connects == [ASKED, ASKED]


async def test_after_revoking_everything_is_asked_about_again(world: World) -> None:
    token = world.token()
    async with world.connect() as client:
        for _ in range(2):
            assert (await world.request(token=token, client=client)).text == "guest a"
        world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", world.guests["b"].port, "mvm-a.2")
        world.watch.admissions.revoke("mvm-a")
        for _ in range(2):
            assert (await world.request(token=token, client=client)).text == "guest b"
        del world.directory.upstreams["mvm-a", 8080]
        world.watch.admissions.revoke("mvm-a")
        assert (await world.request(token=token, client=client)).status_code == 502
    assert world.directory.connects == [ASKED, ASKED, ASKED]


async def test_a_verdict_that_was_revoked_before_it_arrived_lets_nothing_pass(world: World) -> None:
    """Revoked while the authoriser still judged: the request itself passes, none like it does."""
    token = world.token()
    world.directory.upstreams["mvm-a", 8443] = world.directory.upstreams["mvm-a", 8080]
    async with world.connect() as client:
        await world.request(token=token, client=client)
        name = world.watch.admissions.admit("mvm-a")
        assert name is not None
        world.watch.admissions.revoke("mvm-a")
        assert world.watch.admissions.admit("mvm-a") != name
        await world.request(token=token, client=client)
    assert world.directory.connects == [ASKED, ASKED]


async def test_a_token_that_expires_lets_nothing_pass_any_more(world: World) -> None:
    token = world.token(minutes=2 / 60)
    async with world.connect() as client:
        while (answer := await world.request(token=token, client=client)).status_code == 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert (answer.status_code, answer.text) == (403, "Token authentication failed")


async def test_where_requests_are_counted_each_is_asked_about(world: World) -> None:
    world.directory.limits["mvm-a"] = EndpointLimits(requests_per_s=100)
    token = world.token()
    async with world.connect() as client:
        for _ in range(2):
            await world.request(token=token, client=client)
    assert world.directory.connects == [ASKED, ASKED]


async def test_draining_waits_for_a_request_that_nobody_was_asked_about(world: World) -> None:
    token = world.token()
    async with world.connect() as client:
        await world.request(token=token, client=client)
        stream = asyncio.create_task(world.request("/stream", token=token, client=client))
        while len(world.guests["a"].seen) < 2:  # noqa: ASYNC110  # the guest gives no event
            await asyncio.sleep(0.005)
        await world.watch.traffic.drain("mvm-a")
        ended = stream.done() or b"data: 4" in (await asyncio.wait_for(stream, 0.2)).content
        assert ended
    assert world.directory.connects == [ASKED]


async def test_requests_that_nobody_was_asked_about_are_activity(world: World) -> None:
    token = world.token()
    async with world.connect() as client:
        await world.request(token=token, client=client)
        await asyncio.sleep(0.2)
        before = len(world.directory.moved)
        await world.request(token=token, client=client)
        async with asyncio.timeout(5):
            while len(world.directory.moved) == before:  # noqa: ASYNC110  # Envoy reports when it does
                await asyncio.sleep(0.01)


# --- the shared file


async def test_what_passed_and_has_not_ended_is_under_way(own: Admissions) -> None:
    name = own.admit("mvm-a")
    assert name is not None
    for thread, request in enumerate(("r1", "r2", "r3")):
        let_pass(own, name, thread)
        if request == "r1":
            own.note_end(name, request)
    own.note_lasting(name, "r2")
    underway = await own.settle("mvm-a")
    assert underway.young() == 1
    own.note_end(name, "r3")
    assert underway.young() == 0
    own.note_end(name, "r2")
    assert underway.young() == 0


async def test_a_slot_that_is_used_again_starts_from_nothing(own: Admissions) -> None:
    own._free.clear()
    own._free.append(7)
    first = own.admit("mvm-a")
    assert first is not None
    let_pass(own, first)
    assert own.admit("mvm-b") is None  # no slot is left
    own.revoke("mvm-a")
    second = own.admit("mvm-b")
    assert second is not None
    assert (first.partition(":")[0], first == second) == (second.partition(":")[0], False)
    own.note_end(first, "late")
    assert (await own.settle("mvm-b")).young() == 0


async def test_the_next_server_revokes_what_an_earlier_one_admitted(tmp_path: Path) -> None:
    earlier = Admissions(tmp_path / "admissions")
    epochs = list(earlier._numbers[:SLOTS])
    name = earlier.admit("mvm-a")
    assert name is not None
    let_pass(earlier, name)
    again = Admissions(tmp_path / "admissions")  # as after SIGKILL: the earlier one has not been closed
    assert again.inode == earlier.inode
    assert not set(zip(epochs, again._numbers[:SLOTS], strict=True)) & {(epoch, epoch) for epoch in epochs}
    assert again.admit("mvm-a") != name
    assert (await again.settle("mvm-a")).young() == 0
    earlier.close()
    again.close()


async def test_a_file_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="admissions cannot be kept in"):
        Admissions(tmp_path / "missing" / "admissions")
