"""Clients that mean harm: nothing passes that should not, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import json
import resource
import socket
from datetime import UTC, datetime, timedelta

import pytest
from gateway_world import SUFFIX, World
from joserfc import jwe
from joserfc.jwk import OctKey, RSAKey

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDLERS = 10_000
FAILED = (403, "Token authentication failed")
MISSING = (403, "Request missing authentication")


def claims_for(microvm_id: str = "mvm-a") -> str:
    expiry = datetime.now(UTC) + timedelta(minutes=5)
    return json.dumps({"vm": microvm_id, "ports": [[1, 65535]], "kind": "application", "exp": int(expiry.timestamp())})


def header_of(token: str) -> dict[str, str]:
    part = token.partition(".")[0]
    header: dict[str, str] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return header


async def is_refused(world: World, token: str) -> bool:
    answer = await world.request(token=token)
    return (answer.status_code, answer.text) in (FAILED, MISSING)


@pytest.mark.parametrize("algorithm", ["A128GCM", "A256GCM", "A256CBC-HS512"])
async def test_a_token_of_somebody_elses_key_is_refused(world: World, algorithm: str) -> None:
    """With our key id and claims that would open everything, but encrypted with another key."""
    size = {"A128GCM": 16, "A256GCM": 32, "A256CBC-HS512": 64}[algorithm]
    header = header_of(world.token()) | {"enc": algorithm}
    forged = jwe.encrypt_compact(header, claims_for(), OctKey.import_key(b"k" * size), algorithms=["dir", algorithm])
    assert await is_refused(world, forged)
    assert world.directory.connects == []


async def test_another_way_of_agreeing_on_a_key_is_refused(world: World) -> None:
    key = RSAKey.generate_key(2048)
    header = header_of(world.token()) | {"alg": "RSA-OAEP"}
    forged = jwe.encrypt_compact(header, claims_for(), key, algorithms=["RSA-OAEP", "A256GCM"])
    assert await is_refused(world, forged)


async def test_a_header_with_one_member_more_or_less_is_refused(world: World) -> None:
    _, *rest = world.token().split(".")
    for change in ({"zip": "DEF"}, {"crit": ["exp"]}, {"kid": "../../keys"}, {"kid": ""}, {"enc": "none"}):
        header = json.dumps(header_of(world.token()) | change).encode()
        encoded = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
        assert await is_refused(world, ".".join([encoded, *rest])), change
    assert world.directory.connects == []


async def test_every_bit_of_a_token_counts(world: World) -> None:
    token = world.token()
    for position in range(0, len(token) - 1, 29):
        other = "A" if token[position] != "A" else "B"
        assert await is_refused(world, token[:position] + other + token[position + 1 :]), position
    for end in range(1, len(token), 53):
        assert await is_refused(world, token[:end])
    assert world.directory.connects == []


async def test_a_token_replayed_at_another_endpoint_is_refused_in_every_way_of_sending_it(world: World) -> None:
    other = f"bbbb.{SUFFIX}"
    assert (await world.request(host=other)).status_code == 403
    subprotocols = f"lambda-microvms, lambda-microvms.authentication.{world.token()}"
    headers = [("sec-websocket-protocol", subprotocols)]
    assert (await world.request(host=other, token=None, headers=headers)).status_code == 403
    async with world.connect(http2=True) as client:
        assert (await world.request(host=other, client=client)).status_code == 403
    assert world.guests["b"].seen == []


@pytest.mark.parametrize(
    "lines",
    [
        ["Connection: close, X-aws-proxy-auth"],
        ["Connection: X-aws-proxy-port", "X-aws-proxy-port: 22"],
        ["Connection: keep-alive, Host"],
        ["X-aws-proxy-auth\t: x"],
        ["X-Emberbox-Connection: 1", "X-Emberbox-Target: mvm-b:8080", "X-Emberbox-Cluster: guest_http2"],
        ["X-Envoy-Auth-Headers-To-Remove: host", "X-Envoy-Original-Path: /other"],
        ["X-Emberbox-Microvm: mvm-b", "X_Emberbox_Microvm: mvm-b"],
        ["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
        ["Trailer: X-aws-proxy-auth", "TE: trailers"],
        ["Expect: 100-continue"],
        ["Content-Length: 0", "Content-Length: 0"],
    ],
    ids=str,
)
async def test_headers_that_try_to_steer_the_gateway_reach_the_right_guest_or_none(
    world: World, lines: list[str]
) -> None:
    head = ["GET / HTTP/1.1", "Host: localhost", f"X-aws-proxy-auth: {world.token()}", *lines]
    answer = await world.raw(("\r\n".join(head) + "\r\n\r\n").encode())
    assert not answer or answer.split(b" ")[1][:1] in (b"1", b"2", b"4", b"5"), answer
    assert world.guests["b"].seen == []
    assert {microvm for microvm, _ in world.directory.connects} <= {"mvm-a"}
    for seen in world.guests["a"].seen:
        names = " ".join(seen.headers)
        assert "emberbox" not in names
        assert "aws-proxy" not in names
        assert "envoy" not in names
        assert seen.headers["host"] == "localhost"


async def test_a_header_cannot_be_split_into_two(world: World) -> None:
    """Over HTTP/2 a value can hold any byte; line ends in it must not become lines for the guest."""
    import h2.config
    import h2.connection
    import h2.events

    tls = world.trust()
    tls.set_alpn_protocols(["h2"])
    for value in (b"a\r\nx-injected: 1", b"a\nx-injected: 1", b"a\0b"):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", world.gateway.port, ssl=tls, server_hostname="localhost"
        )
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        state = h2.connection.H2Connection(config)
        state.initiate_connection()
        head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
        head += [(b"x-aws-proxy-auth", world.token().encode()), (b"x-own", value)]
        state.send_headers(1, head, end_stream=True)  # type: ignore[arg-type]
        writer.write(state.data_to_send())
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(reader.read(65536), 1)
        writer.close()
    assert not [seen for seen in world.guests["a"].seen if "x-injected" in seen.headers]


async def open_tcp(port: int, count: int) -> list[socket.socket]:
    """Open plain connections and leave them."""
    loop = asyncio.get_running_loop()
    opened: list[socket.socket] = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        try:
            await loop.sock_connect(client, ("127.0.0.1", port))
        except OSError as error:
            client.close()
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            continue
        opened.append(client)
    return opened


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_ten_thousand_idle_connections_and_slow_clients_are_closed_and_others_are_served(world: World) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > IDLERS + 2000, f"`ulimit -Hn` is {hard}, too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    slow = []
    idle: list[socket.socket] = []
    try:
        for _ in range(50):  # slow-loris: a request that never ends
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", world.gateway.port, ssl=world.trust(), server_hostname="localhost"
            )
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            slow.append((reader, writer))
        idle = await open_tcp(world.gateway.port, IDLERS)
        assert len(idle) == IDLERS
        for _ in range(5):
            async with world.connect() as client:
                other = await world.request(client=client, host="127.0.0.1", token=world.token("mvm-b"))
                assert (other.status_code, other.text) == (200, "guest b")
            for _, writer in slow:
                writer.write(b"x")  # one byte now and then does not help
        async with asyncio.timeout(60):
            for reader, _ in slow:
                with contextlib.suppress(OSError):
                    await reader.read()  # until the end
            while not all(is_closed(client) for client in idle):  # noqa: ASYNC110  # the kernel gives no event
                await asyncio.sleep(0.2)
        assert world.guests["a"].seen == []
    finally:
        for client in idle:
            client.close()
        for _, writer in slow:
            writer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
