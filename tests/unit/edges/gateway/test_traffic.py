"""Reports of what crosses: as lines, and as Envoy really writes them."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from pathlib import Path

import pytest
from gateway_world import World, start_world

from emberbox.edges.gateway.proxy.admissions import Admissions
from emberbox.edges.gateway.proxy.limits import RequestRates
from emberbox.edges.gateway.proxy.traffic import Traffic, read_reports
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.endpoints import EndpointLimits, Upstream
from support.waiting import wait_for_async

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Told:
    """A Traffic, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.moved: list[str] = []
        self.failed: list[tuple[str, int]] = []
        self.admissions = Admissions(path / "admissions")
        self.from_client: list[bool] = []
        self.traffic = Traffic(
            self.note_bytes, lambda microvm_id, port: self.failed.append((microvm_id, port)), self.admissions
        )

    def note_bytes(self, microvm_id: str, *, from_client: bool) -> None:
        self.moved.append(microvm_id)
        self.from_client.append(from_client)

    def report(
        self, kind: str, received: int, sent: int, flags: str = "-", request: str = "r1", admission: str = "-"
    ) -> None:
        self.traffic.read_line(f"stream {kind} mvm-a:8080 {request} {received} {sent} {flags} {admission}")


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


async def test_bytes_are_told_once_and_silence_is_not(told: Told) -> None:
    told.report("DownstreamPeriodic", 10, 0)
    told.report("DownstreamPeriodic", 10, 0)
    assert told.moved == ["mvm-a"]
    told.report("DownstreamPeriodic", 10, 5)
    told.report("DownstreamPeriodic", 11, 5)
    assert len(told.moved) == 3
    told.report("DownstreamEnd", 11, 5)
    assert len(told.moved) == 3
    told.report("DownstreamEnd", 11, 5, request="r2")
    assert len(told.moved) == 4


async def test_what_the_client_sent_is_told_apart(told: Told) -> None:
    for received, sent in ((10, 0), (10, 5), (11, 5), (12, 6)):
        told.report("DownstreamPeriodic", received, sent)
    assert told.from_client == [True, False, True, True]


async def test_a_failed_connection_is_told_with_its_port(told: Told) -> None:
    told.report("DownstreamEnd", 1, 1, "UF,URX")
    told.report("DownstreamEnd", 1, 1, "DC")
    assert told.failed == [("mvm-a", 8080)]


@pytest.mark.parametrize(
    "line", ["", "x", "closed", "closed 7", "stream a - r 1 1 - -", "stream", "stream a b c d e f g h", "stream a b"]
)
async def test_a_line_that_says_nothing_changes_nothing(told: Told, line: str) -> None:
    told.traffic.read_line(line)
    assert told.moved == told.failed == []


async def test_draining_waits_for_young_requests_alone(told: Told) -> None:
    await told.traffic.drain("mvm-a")
    told.traffic.begin("mvm-a", "r1")
    told.traffic.begin("mvm-a", "r2")
    told.traffic.begin("mvm-b", "other")
    waiting = asyncio.create_task(told.traffic.drain("mvm-a"))
    told.report("DownstreamEnd", 1, 1)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    told.report("DownstreamEnd", 1, 1, request="r2")
    await asyncio.wait_for(waiting, 5)


async def test_draining_does_not_wait_for_a_stream(told: Told) -> None:
    told.traffic.begin("mvm-a", "websocket")
    await asyncio.wait_for(told.traffic.drain("mvm-a"), 5)


async def test_a_connection_counts_once_for_each_microvm_until_it_closes(told: Told) -> None:
    traffic = told.traffic
    assert await traffic.take_connection("mvm-a", "1", 2, 0)
    assert await traffic.take_connection("mvm-a", "1", 2, 0)
    assert await traffic.take_connection("mvm-a", "2", 2, 0)
    assert not await traffic.take_connection("mvm-a", "3", 2, 0)
    assert await traffic.take_connection("mvm-b", "3", 2, 0)
    assert await traffic.take_connection("mvm-a", "2", 2, 0)
    traffic.read_line("closed 1")
    assert await traffic.take_connection("mvm-a", "3", 2, 0)


async def test_a_connection_waits_a_moment_for_another_to_be_closed(told: Told) -> None:
    traffic = told.traffic
    assert await traffic.take_connection("mvm-a", "1", 1, 0)
    waiting = asyncio.create_task(traffic.take_connection("mvm-a", "2", 1, 5))
    await asyncio.sleep(0.01)
    traffic.read_line("closed 1")
    assert await asyncio.wait_for(waiting, 5)


async def test_a_connection_reported_as_closed_before_it_is_judged_does_not_count(told: Told) -> None:
    traffic = told.traffic
    traffic.read_line("closed 1")
    assert await traffic.take_connection("mvm-a", "1", 1, 0)
    assert await traffic.take_connection("mvm-a", "2", 1, 0)


async def test_a_lost_envoy_takes_its_connections_with_it(told: Told) -> None:
    traffic = told.traffic
    assert await traffic.take_connection("mvm-a", "1", 1, 0)
    traffic.forget_connections()
    assert await traffic.take_connection("mvm-a", "2", 1, 0)


async def test_rates_allow_a_burst_and_then_as_many_as_flow_in() -> None:
    now = 0.0
    rates = RequestRates(lambda: now)
    assert [rates.take("a", 3) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 3)
    now = 0.4
    assert [rates.take("a", 3) for _ in range(2)] == [True, False]
    now = 100.0
    assert [rates.take("a", 3) for _ in range(4)] == [True, True, True, False]
    assert all(rates.take("a", 0) for _ in range(100))


async def test_lines_are_read_from_a_fifo_whose_writers_come_and_go(tmp_path: Path) -> None:
    lines: list[str] = []
    (tmp_path / "reports").write_text("left by a validation")
    with read_reports(tmp_path / "reports", lines.append):
        for part in (b"one\ntw", b"o\nthree\n"):
            writer = os.open(tmp_path / "reports", os.O_WRONLY | os.O_NONBLOCK)
            os.write(writer, part)
            os.close(writer)
        await wait_for_async("three lines", lambda: len(lines) == 3)
    assert lines == ["one", "two", "three"]


# --- what Envoy reports


async def open_upgraded(world: World, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open an upgraded connection to the guest, which says everything back in capitals."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.gateway.port, ssl=world.trust(), server_hostname="localhost"
    )
    lines = ["GET /ws HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: x", f"X-aws-proxy-auth: {token}"]  # fmt: skip
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer


async def test_bytes_on_an_open_websocket_are_activity_and_silence_is_none(world: World) -> None:
    moved = world.directory.moved
    reader, writer = await open_upgraded(world, world.token())
    await asyncio.sleep(1.5)
    before = len(moved)
    await asyncio.sleep(2.5)
    assert len(moved) == before  # two reports, and nothing has moved
    writer.write(b"ping")
    assert await reader.readexactly(4) == b"PING"
    await wait_for_async("bytes are told", lambda: len(moved) > before)
    assert set(moved) == {"mvm-a"}
    writer.close()


async def test_refused_requests_are_no_activity(fresh_world: World) -> None:
    """In a gateway of its own: what Envoy reports late of another test's streams is activity."""
    await fresh_world.request(token=None)
    await fresh_world.request(headers=[("x-aws-proxy-port", "22")])
    await asyncio.sleep(0.3)
    assert fresh_world.directory.moved == []


async def test_too_many_connections_to_one_microvm_are_429_and_others_are_served(world: World) -> None:
    world.directory.limits["mvm-a"] = EndpointLimits(connections=2)
    opened = [await open_upgraded(world, world.token()) for _ in range(2)]
    async with world.connect() as client:
        refused = await world.request(client=client)
        assert (refused.status_code, refused.text) == (429, "Too many connections: this MicroVM takes 2 at once")
        assert refused.headers["content-type"].startswith("text/plain")
        other = await world.request(client=client, host="127.0.0.1", token=world.token("mvm-b"))
        assert (other.status_code, other.text) == (200, "guest b")
        assert opened[0][1].transport.is_closing() is False
        for _, writer in opened:
            writer.close()
        assert (await world.request(client=client)).status_code == 200


async def test_one_connection_after_another_is_never_too_many(world: World) -> None:
    world.directory.limits["mvm-a"] = EndpointLimits(connections=2)

    async def come_and_go() -> list[int]:
        codes = []
        for _ in range(15):
            async with world.connect() as client:
                codes.append((await world.request(client=client)).status_code)
        return codes

    async with world.connect() as client:
        await world.request(client=client, host="127.0.0.1", token=world.token("mvm-b"))
    codes = await asyncio.gather(come_and_go(), come_and_go())
    assert {code for each in codes for code in each} == {200}


async def test_too_many_requests_in_a_second_are_429(world: World) -> None:
    world.directory.limits["mvm-a"] = EndpointLimits(requests_per_s=5)
    answers = await asyncio.gather(*(world.request() for _ in range(30)))
    assert {a.status_code for a in answers} == {200, 429}
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.text == "Too many requests: this MicroVM takes 5 in a second"
    assert len(world.guests["a"].seen) == sum(a.status_code == 200 for a in answers)


async def test_a_port_that_begins_to_speak_tls_is_found_out_after_one_failure(world: World, tmp_path: Path) -> None:
    assert (await world.request()).status_code == 200
    made = ensure_certificates(tmp_path, ["guest"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate_path, made.key_path)
    server = await asyncio.start_server(world.guests["a"].serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, "mvm-a.9")
    assert (await world.request()).status_code == 502
    await asyncio.sleep(0.2)
    assert (await world.request()).text == "guest a"
    server.close()


async def test_counting_goes_on_after_envoy_was_killed(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        world.directory.limits["mvm-a"] = EndpointLimits(connections=1)
        await open_upgraded(world, world.token())
        killed = world.envoy_pid()
        os.kill(killed, signal.SIGKILL)
        await wait_for_async("it is back", lambda: world.envoy_pid() != killed and world.gateway_accepts())
        async with world.connect() as client:
            assert (await world.request(client=client)).status_code == 200
            assert (await world.request(client=client)).status_code == 200


async def test_envoy_serves_on_while_nobody_reads_its_reports_and_goes_on_reporting(tmp_path: Path) -> None:
    """As when the server was killed: its end of the FIFO is gone until the next server opens it."""
    async with start_world(tmp_path) as world:
        reports = tmp_path / "gateway/reports"
        links = {int(link.name): str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
        reader = next(number for number, target in links.items() if target == str(reports))
        asyncio.get_running_loop().remove_reader(reader)
        with Path(os.devnull).open("rb") as nothing:  # noqa: ASYNC230 - it never blocks
            os.dup2(nothing.fileno(), reader)
        for _ in range(5):
            assert (await world.request()).status_code == 200
        lines: list[str] = []
        with read_reports(reports, lines.append):
            assert (await world.request()).status_code == 200
            await wait_for_async(
                "a report", lambda: any(line.startswith("stream DownstreamEnd mvm-a") for line in lines)
            )
