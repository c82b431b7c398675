"""What a client and a guest see of the endpoint: real TLS, real Envoy, real servers as guests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from gateway_world import DOMAIN, REGION, SUFFIX, World

from emberbox.control.endpoints.tokens import Kind
from emberbox.model.endpoints import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

MISSING = (403, "Request missing authentication")
FAILED = (403, "Token authentication failed")
DENIED = (403, "Access to port denied")


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.text


async def test_a_request_with_a_token_reaches_its_guest_unchanged(world: World) -> None:
    answer = await world.request("/a//b%2f..%2F;c?q=%20&r", method="POST", content=b"body")
    assert told(answer) == (200, "guest a")
    (seen,) = world.guests["a"].seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/a//b%2f..%2F;c?q=%20&r", b"body")
    assert seen.headers["host"] == f"aaaa.{SUFFIX}"
    assert world.directory.connects == [("mvm-a", 8080)]


async def test_dot_segments_reach_the_guest_as_they_are(world: World) -> None:
    request = f"GET /x/../y/./z HTTP/1.1\r\nHost: a\r\nX-aws-proxy-auth: {world.token()}\r\n\r\n"
    assert (await world.raw(request.encode())).startswith(b"HTTP/1.1 200")
    assert world.guests["a"].seen[0].target == "/x/../y/./z"


async def test_a_guest_sees_nothing_of_the_gateway_but_a_request_id(world: World) -> None:
    spoofed = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "ftp"),
        ("x-forwarded-host", "evil"),
        ("X_Forwarded_For", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-amzn-requestid", "spoofed"),
        ("x_amzn_requestid", "spoofed"),
        ("x-envoy-internal", "true"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-emberbox-upstream", "127.0.0.1:1"),
        ("x-emberbox-incarnation", "other"),
        ("x-aws-proxy-something-new", "1"),
        ("X_aws_proxy_auth", "x"),
        ("x-aws-proxy-port", "8080"),
        ("x-own", "kept"),
        ("x_own", "kept"),
        ("traceparent", "kept"),
        ("x-request-id", "kept"),
    ]
    assert told(await world.request(headers=spoofed)) == (200, "guest a")
    (seen,) = world.guests["a"].seen
    own = {"x-own": "kept", "x_own": "kept", "traceparent": "kept", "x-request-id": "kept"}
    request_id = seen.headers.pop("x-amzn-requestid")
    assert request_id != "spoofed"
    assert len(request_id) == 36
    usual = {"host", "accept", "accept-encoding", "user-agent", "connection"}
    assert {k: v for k, v in seen.headers.items() if k not in usual} == own


async def test_a_client_sees_nothing_of_envoy(world: World) -> None:
    answer = await world.request()
    assert answer.headers["server"] == "guest/1"
    assert answer.headers["x-own"] == "kept"
    assert not [name for name in answer.headers if "envoy" in name or "emberbox" in name or name == "via"]
    refused = await world.request(token=None)
    assert set(refused.headers) == {"content-type", "content-length", "date"}
    assert refused.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("header", ["x-envoy-original-dst-host", "x-emberbox-upstream", "X_Emberbox_Upstream"])
async def test_a_client_cannot_choose_where_its_request_goes(world: World, header: str) -> None:
    other = f"127.0.0.1:{world.guests['b'].port}"
    assert told(await world.request(headers=[(header, other)])) == (200, "guest a")
    assert world.guests["b"].seen == []


@pytest.mark.parametrize("token", [None, "nonsense", "Bearer abc", "a.b.c.d.e", "x" * 20_000], ids=repr)
async def test_a_request_without_a_parseable_token_is_refused(world: World, token: str | None) -> None:
    assert told(await world.request(token=token)) == MISSING
    assert world.directory.connects == []


async def test_two_tokens_are_as_good_as_none(world: World) -> None:
    again = [("x-aws-proxy-auth", world.token())]
    assert told(await world.request(headers=again)) == MISSING


async def test_a_token_in_a_header_with_underscores_is_no_token(world: World) -> None:
    assert told(await world.request(token=None, headers=[("x_aws_proxy_auth", world.token())])) == MISSING


async def test_an_expired_token_is_refused_also_when_it_worked_before(world: World) -> None:
    assert told(await world.request(token=world.token(minutes=-1))) == FAILED
    short = world.token(minutes=1.5 / 60)
    assert told(await world.request(token=short)) == (200, "guest a")
    await asyncio.sleep(1.6)
    assert told(await world.request(token=short)) == FAILED


async def test_forged_tokens_are_refused(world: World) -> None:
    head, _, iv, claims, tag = world.token().split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    swapped = base64.urlsafe_b64encode(json.dumps(header | {"alg": "none"}).encode()).rstrip(b"=").decode()
    forgeries = [
        f"{head}..{iv}.{claims}.{'A' * 22}",
        f"{head}..{'A' * 16}.{claims}.{tag}",
        f"{head}..{iv}.{'A' * len(claims)}.{tag}",
        f"{head}..{iv}.{claims[:-4]}.{tag}",
        f"{swapped}..{iv}.{claims}.{tag}",
    ]
    for forged in forgeries:
        assert told(await world.request(token=forged)) == FAILED
    for misshapen in (
        f"{head}.{tag}.{iv}.{claims}.{tag}",
        f"{head}..{iv}.{claims}.{tag[:-2]}",
        f"{head}..{iv}",
    ):
        assert told(await world.request(token=misshapen)) == MISSING
    assert world.guests["a"].seen == []


@pytest.mark.parametrize(
    "host",
    [
        f"bbbb.{SUFFIX}",  # another microVM's endpoint
        f"cccc.{SUFFIX}",  # nobody's
        f"BBBB.{SUFFIX}:443",
        f"bbbb.{SUFFIX}.",
        f"aaaa.lambda-microvm.eu-west-1.{DOMAIN}",  # another region
        f"aaaa.lambda-microvm.{REGION}.on.aws",  # another domain
        f"x.aaaa.{SUFFIX}",  # a name below its own
        f"aaaa%00.{SUFFIX}",
        "aaaa.lambda-microvm",
    ],
)
async def test_a_token_opens_no_endpoint_but_its_own(world: World, host: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-aws-proxy-auth: {world.token()}\r\n\r\n"
    answer = await world.raw(request.encode())
    assert answer.startswith(b"HTTP/1.1 403"), answer
    assert answer.endswith(b"Token authentication failed")
    assert world.directory.connects == []


@pytest.mark.parametrize(
    "host",
    [
        f"aaaa.{SUFFIX}",
        f"AAAA.{SUFFIX}:8443",
        f"aaaa.{SUFFIX}.",
        "127.0.0.1",
        "127.0.0.1:8443",
        "[::1]:8443",
        "localhost",
        DOMAIN,
        SUFFIX,
    ],
)
async def test_a_token_works_at_its_endpoint_and_at_every_bare_address(world: World, host: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-aws-proxy-auth: {world.token()}\r\n\r\n"
    assert (await world.raw(request.encode())).startswith(b"HTTP/1.1 200")
    assert world.guests["a"].seen[0].headers["host"] == host


async def test_two_host_headers_are_refused(world: World) -> None:
    lines = [
        "GET / HTTP/1.1",
        f"Host: aaaa.{SUFFIX}",
        f"Host: bbbb.{SUFFIX}",
        f"X-aws-proxy-auth: {world.token()}",
    ]
    answer = await world.raw(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    assert world.guests["a"].seen == world.guests["b"].seen == []


async def test_an_absolute_target_counts_as_the_host(world: World) -> None:
    lines = [
        f"GET http://bbbb.{SUFFIX}/ HTTP/1.1",
        f"Host: aaaa.{SUFFIX}",
        f"X-aws-proxy-auth: {world.token()}",
    ]
    answer = await world.raw(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert answer.startswith(b"HTTP/1.1 403")
    assert world.guests["a"].seen == world.guests["b"].seen == []


async def test_the_port_header_chooses_among_the_granted_ports(world: World) -> None:
    world.directory.upstreams["mvm-a", 9000] = Upstream("127.0.0.1", world.guests["b"].port, "mvm-a.1")
    both = world.token(allowed_ports=[{"port": 8080}, {"range": {"startPort": 9000, "endPort": 9001}}])
    assert told(await world.request(token=both)) == (200, "guest a")
    assert told(await world.request(token=both, headers=[("X-aws-proxy-port", "9000")])) == (200, "guest b")
    assert told(await world.request(token=both, headers=[("X-aws-proxy-port", "9001")])) == (502, "")


async def test_a_port_that_is_not_granted_is_denied_and_wakes_nothing(world: World) -> None:
    assert told(await world.request(headers=[("x-aws-proxy-port", "22")])) == DENIED
    assert told(await world.request(token=world.token(allowed_ports=[{"port": 22}]))) == DENIED
    assert world.directory.connects == []


@pytest.mark.parametrize(
    "port",
    ["", "0", "65536", "-1", "+8080", "8080.0", "0x1f90", "8080,22", "08080", "1e3", "99999999999", "80 80"],
)
async def test_an_unusable_port_is_a_bad_request_that_says_what_it_must_be(world: World, port: str) -> None:
    answer = await world.request(headers=[("x-aws-proxy-port", port)])
    assert told(answer) == (400, "X-aws-proxy-port must be a single number from 1 to 65535")
    assert world.directory.connects == []


async def test_two_port_headers_are_a_bad_request(world: World) -> None:
    twice = [("x-aws-proxy-port", "8080"), ("x-aws-proxy-port", "8080")]
    assert (await world.request(headers=twice)).status_code == 400


async def test_whoever_has_no_token_is_not_told_about_ports(world: World) -> None:
    assert told(await world.request(token=None, headers=[("x-aws-proxy-port", "x")])) == MISSING


async def test_a_microvm_that_does_not_run_is_an_empty_502(world: World) -> None:
    world.directory.upstreams.clear()
    answer = await world.request()
    assert told(answer) == (502, "")
    assert "content-type" not in answer.headers


async def test_a_port_where_nothing_listens_is_an_empty_502(world: World) -> None:
    world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", 1, "mvm-a.1")
    assert told(await world.request()) == (502, "")


async def test_an_application_that_hangs_up_is_an_empty_502(world: World) -> None:
    assert told(await world.request("/close")) == (502, "")


async def test_a_shells_token_opens_no_http(world: World) -> None:
    assert told(await world.request(token=world.token(kind="shell"))) == (502, "")
    assert world.directory.connects == []


@pytest.mark.parametrize("kind", ["application", "shell"])
async def test_a_microvm_that_has_ended_is_a_502_by_its_token_alone(world: World, kind: Kind) -> None:
    world.directory.ended.add("mvm-a")
    token, headers = world.token(kind=kind), [("x-aws-proxy-port", "0")]
    assert told(await world.request("/exec", method="POST", host="localhost", token=token)) == (502, "")
    assert world.directory.connects == []
    if kind == "application":  # what the request says wrongly is told all the same
        answer = await world.request(host="localhost", token=token, headers=headers)
        assert answer.status_code == 400


@pytest.mark.parametrize("status", [400, 403, 404, 500, 502, 503, 504])
async def test_an_applications_own_failures_pass_unchanged(world: World, status: int) -> None:
    assert told(await world.request(f"/status/{status}")) == (status, "guest a")


async def test_a_request_is_held_until_its_microvm_is_awake(world: World) -> None:
    world.directory.delay_s = 0.7
    answers = await asyncio.gather(*(world.request() for _ in range(8)))
    assert [told(a) for a in answers] == [(200, "guest a")] * 8


async def test_a_client_that_gives_up_while_held_harms_nobody(world: World) -> None:
    world.directory.delay_s = 5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.request(), 0.2)
    world.directory.delay_s = 0
    assert told(await world.request()) == (200, "guest a")


async def test_connections_to_a_guest_are_reused_but_never_across_incarnations(world: World) -> None:
    for incarnation, times in (("mvm-a.7", 2), ("mvm-a.8", 2)):
        upstream = Upstream("127.0.0.1", world.guests["a"].port, incarnation)
        world.directory.upstreams["mvm-a", 8080] = upstream
        for _ in range(times):
            assert told(await world.request()) == (200, "guest a")
    first, second, third, fourth = (seen.connection for seen in world.guests["a"].seen)
    assert first == second != third == fourth


async def test_http2_is_spoken_to_a_client_that_offers_it(world: World) -> None:
    async with world.connect(http2=True) as client:
        answers = await asyncio.gather(*(world.request(f"/{i}", client=client) for i in range(20)))
        assert {a.http_version for a in answers} == {"HTTP/2"}
        assert {told(a) for a in answers} == {(200, "guest a")}
        assert told(await world.request(client=client, host=f"bbbb.{SUFFIX}")) == FAILED
        assert told(await world.request(client=client, token=None)) == MISSING


async def test_a_stream_arrives_piece_by_piece(world: World) -> None:
    headers = {"x-aws-proxy-auth": world.token()}
    async with world.client.stream(
        "GET", f"https://127.0.0.1:{world.gateway.port}/stream", headers=headers,
        extensions={"sni_hostname": "localhost"},
    ) as answer:  # fmt: skip
        times = [asyncio.get_running_loop().time() async for line in answer.aiter_lines() if line]
    assert len(times) == 5
    assert times[-1] - times[0] > 0.1


async def test_a_websocket_carries_bytes_both_ways_until_the_client_leaves(world: World) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", world.gateway.port, ssl=world.trust(), server_hostname="localhost"
    )
    lines = ["GET /ws HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
             "Sec-WebSocket-Key: x", f"X-aws-proxy-auth: {world.token()}"]  # fmt: skip
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    for word in (b"ping", b"again"):
        writer.write(word)
        assert await asyncio.wait_for(reader.readexactly(len(word)), 5) == word.upper()
    writer.close()
    assert "x-aws-proxy-auth" not in world.guests["a"].seen[0].headers


async def test_an_upgrade_without_a_token_is_refused(world: World) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    assert (await world.raw(request)).startswith(b"HTTP/1.1 403")
    assert world.guests["a"].seen == []


@contextlib.asynccontextmanager
async def h2c_guest() -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    """Serve HTTP/2 without TLS, with prior knowledge, and trailers as gRPC has them."""
    seen: list[dict[str, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        writer.write(state.data_to_send())
        with contextlib.closing(writer):
            while data := await reader.read(65536):
                for event in state.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        seen.append({n.decode(): v.decode() for n, v in event.headers})
                    elif isinstance(event, h2.events.StreamEnded):
                        assert event.stream_id is not None
                        state.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                        state.send_data(event.stream_id, b"over h2")
                        state.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                writer.write(state.data_to_send())

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def test_force_h2_speaks_http2_to_the_guest_and_trailers_come_through(world: World) -> None:
    async with h2c_guest() as (port, seen):
        world.directory.upstreams["mvm-a", 8080] = Upstream("127.0.0.1", port, "mvm-a.h2")
        answer = await world.request(headers=[("X-aws-proxy-force-h2", "true")], method="POST", content=b"x")
        assert told(answer) == (200, "over h2")
        assert seen[0][":authority"] == f"aaaa.{SUFFIX}"
        assert not [name for name in seen[0] if name.startswith(("x-aws-proxy", "x-envoy", "x-forwarded"))]


async def test_force_h2_to_a_guest_that_speaks_http1_alone_is_an_empty_502(world: World) -> None:
    assert told(await world.request(headers=[("x-aws-proxy-force-h2", "true")])) == (502, "")
    assert told(await world.request(headers=[("x-aws-proxy-force-h2", "false")])) == (200, "guest a")


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Content-Length: +5"],
        ["X-Bad : space before the colon"],
        ["X-Null: a\0b"],
        [" folded: yes"],
    ],
    ids=str,
)
async def test_an_ambiguous_request_never_reaches_a_guest(world: World, lines: list[str]) -> None:
    head = ["POST / HTTP/1.1", "Host: localhost", f"X-aws-proxy-auth: {world.token()}", *lines]
    answer = await world.raw(("\r\n".join(head) + "\r\n\r\n0\r\n\r\n").encode())
    assert answer == b"" or answer.split(b" ")[1][:1] in (b"4", b"5"), answer
    assert world.guests["a"].seen == []


async def test_a_flood_of_headers_is_refused(world: World) -> None:
    many = await world.request(headers=[(f"x-{i}", "1") for i in range(200)])
    large = await world.request(headers=[("x-large", "x" * 70_000)])
    assert (many.status_code, large.status_code) == (431, 431)
    assert world.guests["a"].seen == []


async def test_a_long_path_and_a_large_header_still_pass(world: World) -> None:
    path = "/" + "p" * 20_000
    assert told(await world.request(path, headers=[("x-large", "x" * 30_000)])) == (200, "guest a")
    assert world.guests["a"].seen[0].target == path


async def test_a_method_that_makes_tunnels_is_refused(world: World) -> None:
    connect = f"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: localhost\r\nX-aws-proxy-auth: {world.token()}\r\n\r\n"
    answer = await world.raw(connect.encode())
    assert answer == b"" or answer.split(b" ")[1][:1] in (b"4", b"5")


async def test_clear_text_is_not_answered(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with contextlib.suppress(OSError):
        assert not (await asyncio.wait_for(reader.read(100), 5)).startswith(b"HTTP")
    writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_old_tls_is_refused(world: World) -> None:
    old = ssl.create_default_context(cafile=str(world.gateway.authority_path))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", world.gateway.port, ssl=old, server_hostname="localhost")


async def test_envoy_listens_nowhere_but_at_the_endpoint(world: World) -> None:
    pid = json.loads((world.gateway.envoy_log_path.parent / "envoy.pid").read_text())["pid"]
    assert _listening_ports(pid) == {world.gateway.port}


def _listening_ports(pid: int) -> set[int]:
    fds = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {fd[8:-1] for fd in fds if fd.startswith("socket:[")}
    ports: set[int] = set()
    for table in ("tcp", "tcp6"):
        fields = [row.split() for row in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]]
        ports |= {int(f[1].rpartition(":")[2], 16) for f in fields if f[3] == "0A" and f[9] in inodes}
    return ports


async def test_tokens_are_in_no_log(world: World, caplog: Any) -> None:
    with caplog.at_level("DEBUG"):
        token = world.token()
        await world.request(token=token)
        await world.request(token=token[:-6] + "AAAAAA")
    assert token[:-6] not in "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("hpack"))
    assert token[:-6] not in world.gateway.envoy_log_path.read_text()
