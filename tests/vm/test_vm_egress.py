"""Network connectors: a microVM reaches what its subnets and security groups allow, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from emberbox.host.network.rules import FLOWS_PER_S
from support import host
from support.aws import Clients
from support.guests import Microvm
from support.images import BUILD_ROLE, Image, probe_files, unique
from support.server import Server
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives microVMs networks of their own"),
]

Launch = Callable[..., Microvm]
NEAR, FAR = "198.18.213.1", "198.18.213.2"
OPEN_PORT, OTHER_PORT = 8000, 8001
NETWORKS = f"""
[subnet-private]
cidrs = ["198.18.213.0/24"]
[sg-web]
allow = ["tcp {FAR}/32 {OPEN_PORT}"]
[sg-none]
allow = []
"""


@pytest.fixture(scope="module")
def private_host() -> Iterator[None]:
    """A host in a private network: a network namespace with two web servers behind a veth pair."""
    namespace = f"tp-{uuid.uuid4().hex[:8]}"
    near, far = f"tp{uuid.uuid4().hex[:8]}", f"tq{uuid.uuid4().hex[:8]}"
    inside = ["ip", "netns", "exec", namespace]
    host.run("ip", "netns", "add", namespace)
    servers: list[subprocess.Popen[bytes]] = []
    try:
        host.run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", namespace)
        host.run("ip", "address", "add", f"{NEAR}/24", "dev", near)
        host.run("ip", "link", "set", near, "up")
        host.run(*inside, "ip", "address", "add", f"{FAR}/24", "dev", far)
        host.run(*inside, "ip", "link", "set", far, "up")
        host.run(*inside, "ip", "link", "set", "lo", "up")
        for port in (OPEN_PORT, OTHER_PORT):
            command = [*inside, sys.executable, "-m", "http.server", str(port), "--directory", "/usr/share/doc"]
            servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for port in (OPEN_PORT, OTHER_PORT):
            wait_for("the private host answers", lambda port=port: answers_the_host(port), 30)
        yield
    finally:
        for server in servers:
            server.kill()
            server.wait()
        host.run("ip", "link", "delete", near, check=False)
        host.run("ip", "netns", "delete", namespace, check=False)


def answers_the_host(port: int) -> bool:
    """Say whether the private host can be reached from here: without that, a refusal would prove nothing."""
    return subprocess.run(["curl", "-s", "-m", "3", "-o", "/dev/null", f"http://{FAR}:{port}/"]).returncode in (0, 22)


@dataclass
class Connectors:
    """The connectors of these tests."""

    web: str
    none: str


@pytest.fixture(scope="module")
def connectors(server: Server, clients: Clients) -> Iterator[Connectors]:
    (server.home / "networks.toml").write_text(NETWORKS)
    made = [make(clients, group) for group in ("sg-web", "sg-none")]
    yield Connectors(*made)
    for arn in made:
        clients.core.delete_network_connector(Identifier=arn)
    (server.home / "networks.toml").unlink()


def make(clients: Clients, group: str) -> str:
    """Make a connector and wait until it is ACTIVE."""
    vpc: dict[str, Any] = {
        "SubnetIds": ["subnet-private"],
        "SecurityGroupIds": [group],
        "NetworkProtocol": "IPv4",
        "AssociatedComputeResourceTypes": ["MicroVm"],
    }
    made = clients.core.create_network_connector(
        Name=unique("egress"), Configuration={"VpcEgressConfiguration": vpc}, OperatorRole=BUILD_ROLE
    )
    arn = str(made["Arn"])

    def is_active() -> bool:
        return bool(clients.core.get_network_connector(Identifier=arn)["State"] == "ACTIVE")

    wait_for("the connector is ACTIVE", is_active, 30)
    return arn


def reaches(microvm: Microvm, address: str, port: int) -> bool:
    """Say whether a TCP connection from inside the guest is made."""
    script = f'exit !IO::Socket::INET->new(PeerAddr => "{address}", PeerPort => {port}, Timeout => 3)'
    return microvm.shell_code(f"perl -MIO::Socket::INET -e '{script}'") == 0


@pytest.mark.usefixtures("private_host")
@pytest.mark.both_engines
def test_connectors_decide_what_a_microvm_reaches(
    launch: Launch, probe_image: Image, connectors: Connectors, clients: Clients, server: Server
) -> None:
    """INTERNET_EGRESS leaves private networks closed; a connector opens its addresses and ports; deny-all nothing."""
    plain = launch(probe_image)
    web = launch(probe_image, egressNetworkConnectors=[connectors.web])
    closed = launch(probe_image, egressNetworkConnectors=[connectors.none])
    assert web.describe()["egressNetworkConnectors"] == [connectors.web]

    assert not reaches(plain, FAR, OPEN_PORT)
    assert not reaches(closed, FAR, OPEN_PORT)
    assert reaches(web, FAR, OPEN_PORT)
    assert not reaches(web, FAR, OTHER_PORT)

    neighbour = host.find_slot(server.instance, server.microvm_directory(plain.id))
    assert neighbour is not None
    for microvm in (web, closed):
        for address, port in ((NEAR, 22), (neighbour.address, 8080), (neighbour.host_address, 8080)):
            assert not reaches(microvm, address, port), (microvm, address)

    web.suspend()
    web.resume()
    assert reaches(web, FAR, OPEN_PORT)
    assert not reaches(web, FAR, OTHER_PORT)


def test_a_guest_has_its_share_of_connection_tracking_and_no_more(
    launch: Launch, probe_image: Image, server: Server
) -> None:
    """The host's table is everybody's: a guest that sends to ever other ports fills it at a bounded rate."""
    microvm = launch(probe_image)
    slot = host.find_slot(server.instance, server.microvm_directory(microvm.id))
    assert slot is not None
    tracked = ("ip", "netns", "exec", slot.namespace, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
    send = 'socket(S, 2, 2, 17); send(S, 1, 0, pack("S n C4 x8", 2, $_, 203, 0, 113, 1))'
    sends = f"$end = time + 10; for (1 .. 60000) {{ last if time > $end; {send} }}"
    before = time.monotonic()
    microvm.shell(f"perl -e '{sends}'")
    found = int(host.run(*tracked))
    assert 500 < found < FLOWS_PER_S * (2 + time.monotonic() - before) + 100


@pytest.mark.usefixtures("private_host", "connectors")
def test_a_deleted_connector_cuts_its_microvms_off_and_leaves_their_endpoints(
    launch: Launch, probe_image: Image, clients: Clients
) -> None:
    """Egress ends at once, the way in does not; and the name of what is gone cannot be used again."""
    arn = make(clients, "sg-web")
    microvm = launch(probe_image, egressNetworkConnectors=[arn])
    assert reaches(microvm, FAR, OPEN_PORT)
    clients.core.delete_network_connector(Identifier=arn)
    wait_for("its egress is cut", lambda: not reaches(microvm, FAR, OPEN_PORT), 30)
    assert microvm.get()["count"] >= 1
    with pytest.raises(clients.microvms.exceptions.ResourceNotFoundException):
        clients.microvms.run_microvm(imageIdentifier=probe_image.arn, egressNetworkConnectors=[arn])


@pytest.mark.usefixtures("private_host")
def test_an_images_connector_counts_while_it_is_built_and_for_its_microvms(
    raw_image: Callable[..., Image], launch: Launch, connectors: Connectors
) -> None:
    """RUN steps reach what the connector allows, and a microVM that names none takes its image's."""
    probe = f"perl -MIO::Socket::INET -e 'exit !IO::Socket::INET->new(PeerAddr => \"{FAR}:%d\", Timeout => 5)'"
    dockerfile = (
        "FROM emberbox/debian:12\nCOPY probe.pl /probe.pl\n"
        f"RUN {probe % OPEN_PORT} && ! {probe % OTHER_PORT}\n"
        'RUN mkdir /data\nEXPOSE 8080\nCMD ["perl", "/probe.pl"]\n'
    )
    image = raw_image("egress", probe_files(dockerfile), egressNetworkConnectors=[connectors.web])
    microvm = launch(image)
    assert microvm.describe()["egressNetworkConnectors"] == [connectors.web]
    assert reaches(microvm, FAR, OPEN_PORT)
    assert not reaches(microvm, FAR, OTHER_PORT)
