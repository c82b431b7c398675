"""Names resolve in every running microVM, whichever way it is connected and wherever the host's name server is.

The name servers are the tests' own; each answers with an address of its own, so an answer tells who was asked.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import host
from support.aws import Clients
from support.guests import Gateway, Microvm, again
from support.images import BUILD_ROLE, PORTS, READY_HOOK, Image, ImageMaker, probe_files, unique
from support.name_server import MANY, NameServer, serve_names
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve names at port 53"),
]

LOOPBACK = "127.53.0.53"
NEAR, FAR = "198.18.214.1", "198.18.214.2"
# RUN steps resolve names too, over UDP and TCP, and have a loopback of their own.
DOCKERFILE = f"""\
FROM emberbox/debian:12
COPY probe.pl /probe.pl
RUN getent ahostsv4 run.test | grep -q 192.0.2.1 && test $(getent ahostsv4 many.run.test | grep -c STREAM) = {MANY}
RUN perl -MIO::Socket::IP -e '$l = IO::Socket::IP->new(LocalHost => "127.0.0.1", Listen => 1) or die; \
IO::Socket::IP->new(PeerHost => "127.0.0.1", PeerPort => $l->sockport, Timeout => 5) or die'
RUN mkdir /data
EXPOSE 8080
CMD ["perl", "/probe.pl"]
"""
NETWORKS = f"""
[subnet-own]
cidrs = ["{NEAR}/32"]
dns = "{FAR}"
[subnet-none]
cidrs = ["{NEAR}/32"]
"""


@pytest.fixture(scope="module")
def turn() -> Iterator[None]:
    """The name servers' addresses are this machine's, so runs of these tests take turns."""
    with (Path(tempfile.gettempdir()) / "emberbox-test-names.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def on_loopback(turn: None) -> Iterator[NameServer]:
    """A name server that only the host itself reaches, as systemd-resolved and dnsmasq are."""
    with serve_names(LOOPBACK, "192.0.2.1") as server:
        yield server


@pytest.fixture(scope="module")
def beyond(turn: None) -> Iterator[NameServer]:
    """A name server on another machine: a network namespace behind a veth pair."""
    for left in Path("/run/netns").glob("tn-*"):  # by a run that was killed
        host.run("ip", "netns", "delete", left.name)
    namespace, near, far = (f"{prefix}{uuid.uuid4().hex[:8]}" for prefix in ("tn-", "tn", "to"))
    inside = ["ip", "netns", "exec", namespace]
    host.run("ip", "netns", "add", namespace)
    try:
        host.run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        host.run("ip", "address", "add", f"{NEAR}/24", "dev", near)
        host.run("ip", "link", "set", near, "up")
        host.run(*inside, "ip", "address", "add", f"{FAR}/24", "dev", far)
        host.run(*inside, "ip", "link", "set", far, "up")
        with serve_names(FAR, "192.0.2.2", namespace) as server:
            yield server
    finally:
        host.run("ip", "link", "delete", near, check=False)
        host.run("ip", "netns", "delete", namespace, check=False)


@pytest.fixture(scope="module")
def own(on_loopback: NameServer) -> Iterator[Server]:
    """A server with a resolv.conf of its own. It keeps a microVM of each image prepared."""
    home = make_home()
    home.parent.mkdir(parents=True, exist_ok=True)
    server = Server(home, network="tap", resolv_conf=str(home.parent / "resolv.conf"))
    name(server, LOOPBACK)
    with server.running():
        yield server


@pytest.fixture(scope="module")
def image(own: Server) -> Image:
    return ImageMaker(Clients.of(own), own.endpoints["region"]).build(
        "names", probe_files(DOCKERFILE), hooks=READY_HOOK
    )


def name(server: Server, *addresses: str) -> None:
    """Let the server's resolv.conf name these name servers."""
    (server.home.parent / "resolv.conf").write_text("".join(f"nameserver {address}\n" for address in addresses))


def start(server: Server, image: Image, **parameters: Any) -> Microvm:
    microvm = Microvm.launch(Gateway(server, Clients.of(server)), image, **parameters)
    microvm.wait_state("RUNNING")
    return microvm


def end(*microvms: Microvm) -> None:
    for microvm in microvms:
        microvm.terminate()
    for microvm in microvms:
        microvm.wait_ended()


def resolves(microvm: Microvm, server: NameServer) -> None:
    """Names resolve, over UDP, and over TCP where the answer does not fit into a datagram; this server is asked."""
    name = f"{uuid.uuid4().hex}.test"
    assert microvm.shell(f"getent ahostsv4 {name}").split()[:1] == [server.address]
    assert int(microvm.shell(f"getent ahostsv4 many.{name} | grep -c STREAM")) == MANY
    protocols = {protocol for protocol, _, asked in server.asked if asked == f"many.{name}"}
    assert protocols == {"udp", "tcp"}


def wait_resolves(microvm: Microvm, server: NameServer) -> None:
    """Another name server counts some seconds later."""
    asks = lambda: microvm.shell(f"getent ahostsv4 {uuid.uuid4().hex}.test").split()[:1]  # noqa: E731
    wait_for("the other name server is asked", lambda: asks() == [server.address], 30)
    resolves(microvm, server)


def test_names_resolve_through_every_change_of_a_microvm(
    own: Server, image: Image, on_loopback: NameServer, beyond: NameServer
) -> None:
    """Launched anew and from the warm pool, resumed, forked, rolled back; and the host's name server changes."""
    name(own, LOOPBACK)
    clients = Clients.of(own)
    microvm = start(own, image)
    resolves(microvm, on_loopback)
    microvm.suspend()
    microvm.resume()
    resolves(microvm, on_loopback)
    wait_for("one is prepared", lambda: clients.emberbox.describe_host()["pooledMicrovms"])
    prepared = start(own, image)
    resolves(prepared, on_loopback)
    version = clients.emberbox.snapshot_microvm(microvmIdentifier=microvm.id)["imageVersion"]
    name(own, FAR)
    for running in (microvm, prepared):
        wait_resolves(running, beyond)
    (forked,) = clients.emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
    fork = Microvm(forked["microvmId"], forked["endpoint"], microvm.gateway)
    fork.wait_state("RUNNING")
    resolves(fork, beyond)
    clients.emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=version)
    resolves(microvm, beyond)
    assert {asker for _, asker, _ in beyond.asked} == {NEAR}
    name(own, "127.53.0.99", LOOPBACK)  # the first of them does not answer
    wait_resolves(microvm, on_loopback)
    assert {asker for _, asker, _ in on_loopback.asked} == {"127.0.0.1"}
    end(microvm, prepared, fork)


def test_a_name_server_with_an_ipv6_address_is_asked(own: Server, image: Image) -> None:
    """Guests have IPv4 only; this process asks for them."""
    with serve_names("::1", "192.0.2.6") as server:
        name(own, "::1")
        microvm = start(own, image)
        wait_resolves(microvm, server)
        end(microvm)


@pytest.mark.parametrize("where", ["loopback", "beyond"])
def test_names_resolve_after_a_restart_and_meanwhile_where_packets_reach_the_name_server(
    own: Server, image: Image, on_loopback: NameServer, beyond: NameServer, where: str
) -> None:
    """SIGKILL: the kernel alone carries the questions on. A clean stop: the microVM is suspended, and resumed."""
    server, address = (on_loopback, LOOPBACK) if where == "loopback" else (beyond, FAR)
    name(own, address)
    microvm = start(own, image)
    wait_resolves(microvm, server)
    assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
    asks_on = "while sleep 0.2; do getent ahostsv4 meanwhile.test; done >/dev/null 2>&1 &"
    microvm.shell(f"({asks_on})")
    own.kill()
    if where == "beyond":
        before = server.names().count("meanwhile.test")
        wait_for("names resolve without a server", lambda: server.names().count("meanwhile.test") > before + 3, 30)
    own.start()
    microvm = again(microvm, Gateway(own, Clients.of(own)))
    resolves(microvm, server)
    assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
    own.stop()
    own.start()
    microvm = again(microvm, Gateway(own, Clients.of(own)))
    microvm.resume()
    resolves(microvm, server)
    end(microvm)


def test_a_connector_decides_whom_a_microvm_asks(
    own: Server, image: Image, on_loopback: NameServer, beyond: NameServer
) -> None:
    """Its own name server where it names one, else nobody; and then nothing is waited for."""
    name(own, LOOPBACK)
    (own.home / "networks.toml").write_text(NETWORKS)
    clients = Clients.of(own)
    with_own, without = (start(own, image, egressNetworkConnectors=[connect(clients, s)]) for s in ("own", "none"))
    resolves(with_own, beyond)
    seconds = without.shell("date +%s; getent ahostsv4 closed.test; date +%s").split()
    assert len(seconds) == 2, "it resolved"
    assert int(seconds[1]) - int(seconds[0]) < 5, "a question without an answer takes five seconds at least"
    assert "closed.test" not in [*on_loopback.names(), *beyond.names()]
    end(with_own, without)


def connect(clients: Clients, subnet: str) -> str:
    """Make a connector and wait until it is ACTIVE."""
    vpc: dict[str, Any] = {
        "SubnetIds": [f"subnet-{subnet}"],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    }
    made = clients.core.create_network_connector(
        Name=unique("names"), Configuration={"VpcEgressConfiguration": vpc}, OperatorRole=BUILD_ROLE
    )
    arn = str(made["Arn"])
    wait_for("ACTIVE", lambda: clients.core.get_network_connector(Identifier=arn)["State"] == "ACTIVE", 30)
    return arn


def test_a_flood_of_questions_harms_nobody_else(own: Server, image: Image, on_loopback: NameServer) -> None:
    """A guest that asks as fast as it can, and what is no question: another one's names resolve all the while."""
    name(own, LOOPBACK)
    noisy, other = start(own, image), start(own, image)
    junk = 'my $n = 0; while (1) { send($s, $n++ % 2 ? "x" x 900 : pack("n6", $n, 256, 1), 0) }'
    socket = 'my $s = IO::Socket::INET->new(PeerAddr => "10.0.2.3:53", Proto => "udp") or die;'
    noisy.shell(f"(perl -MIO::Socket::INET -e '{socket} {junk}' >/dev/null 2>&1 &)")
    for _ in range(5):
        resolves(other, on_loopback)
    end(noisy, other)


def test_user_networks_have_names_and_nothing_else(own: Server, image: Image, on_loopback: NameServer) -> None:
    """The same image on a server with user networks: names by way of the agent, over a suspend and a SIGKILL too.

    Its ports are reached at whatever address they are open.

    The host's own addresses stay closed, the name server's among them.
    """
    name(own, LOOPBACK)
    own.stop()
    own.environment["EMBERBOX_NETWORK"] = "user"
    own.start()
    try:
        microvm = start(own, image)
        resolves(microvm, on_loopback)
        assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
        microvm.suspend()
        microvm.resume()
        resolves(microvm, on_loopback)
        assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
        own.kill()
        own.start()
        microvm = again(microvm, Gateway(own, Clients.of(own)))
        resolves(microvm, on_loopback)
        assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
        api_port = own.endpoints["api_url"].rpartition(":")[2]
        for address, port in (("10.0.2.2", api_port), (NEAR, "22"), ("10.0.2.3", "80")):
            assert not connects(microvm, address, port), (address, port)
        end(microvm)
    finally:
        own.stop()
        own.environment["EMBERBOX_NETWORK"] = "tap"
        own.start()


def connects(microvm: Microvm, address: str, port: str) -> bool:
    script = f'exit !IO::Socket::INET->new(PeerAddr => "{address}", PeerPort => {port}, Timeout => 3)'
    return microvm.shell_code(f"perl -MIO::Socket::INET -e '{script}'") == 0
