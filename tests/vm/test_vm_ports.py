"""Every port of a guest is the application's, and is reached at whatever address it is open; packages by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emberbox.machine.hooks import BASE_PATH
from support.guests import Gateway, Microvm
from support.images import PORTS, READY_HOOK, Image, ImageMaker, probe_files
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Stock nginx, which binds port 80 of all addresses, IPv6 too; what pip needs; and whom this machine trusts.
DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates nginx-light python3-pip
COPY probe.pl /probe.pl
COPY authorities.pem /authorities.pem
RUN mkdir /data
EXPOSE 80 8080
CMD ["sh", "-c", "nginx && exec perl /probe.pl"]
"""
ON_LOOPBACK6 = {**READY_HOOK, "port": 8082}
# A development server: it listens where the name localhost leads to first, and answers with that address.
LOCALHOST = r"""
(perl -MIO::Socket::IP -e '
    my $l = IO::Socket::IP->new(LocalHost => $ARGV[0], LocalPort => 5173, Listen => 9, ReuseAddr => 1,
        GetAddrInfoFlags => 0) or die $@;
    while (my $c = $l->accept) {
        my $request = <$c> or next;
        my $text = q(") . $l->sockhost . q(");
        while (my $line = <$c>) { last if $line !~ /\w/ }
        print $c "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: " . length($text) . "\r\n\r\n$text";
        last if $request =~ /last/;
    }' WHERE >/dev/null 2>&1 &)
"""
METADATA = """
perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => "169.254.169.254:80", Timeout => 10) or die $!;
    print $s "PUT /latest/api/token HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n",
        "X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n";
    print scalar <$s>'
"""


@pytest.fixture(scope="module")
def web_image(images: ImageMaker) -> Iterator[Image]:
    """Stock nginx on port 80 beside the probe application, whose /ready is asked on ::1."""
    authorities = AUTHORITIES.read_bytes() if AUTHORITIES.exists() else b""
    files = {**probe_files(DOCKERFILE), "authorities.pem": authorities}
    image = images.build("web", files, hooks=ON_LOOPBACK6)
    yield image
    images.delete(image)


def test_port_80_is_the_applications_and_metadata_still_answers(launch: Launch, web_image: Image) -> None:
    """Stock nginx serves at the endpoint; 169.254.169.254:80 is the metadata service; after a suspend as well."""
    microvm = launch(web_image)
    for _ in range(2):
        answer = microvm.request(port=80)
        assert answer.status_code == 200
        assert "Welcome to nginx" in answer.text
        assert microvm.shell(METADATA).startswith("HTTP/1.1 200")
        listening = microvm.shell("cat /proc/net/tcp /proc/net/tcp6 /proc/net/udp | awk '$4 == \"0A\" {print $2}'")
        ports = {int(line.rpartition(":")[2], 16) for line in listening.split()}
        assert ports == {80, 8080, 9000, *PORTS}, "something else than the application listens in the guest"
        microvm.suspend()
        microvm.resume()


def test_ipv6_ends_at_the_guests_loopback(probe: Microvm) -> None:
    """::1 is there, as /etc/hosts says; no other address of IPv6, and no way out."""
    (shown,) = probe.shell("cat /proc/net/if_inet6").splitlines()
    address, _, length, *_, device = shown.split()
    assert (address, length, device) == ("0" * 31 + "1", "80", "lo")
    assert "::1 localhost" in probe.shell("cat /etc/hosts")
    connect = "perl -MIO::Socket::IP -e 'IO::Socket::IP->new(%s, Timeout => 3, GetAddrInfoFlags => 0) or print $@'"
    assert probe.shell(connect % 'PeerHost => "::1", PeerPort => 8082') == ""
    refused = probe.shell(connect % 'PeerHost => "2001:db8::1", PeerPort => 80')
    assert "unreachable" in refused or "No route to host" in refused  # Linux, gVisor


@pytest.mark.both_engines
def test_a_port_is_reached_at_whatever_address_it_is_open(launch: Launch, probe_image: Image, gateway: Gateway) -> None:
    """127.0.0.1, ::1, the guest's own address, and all of IPv6 with IPv4 and without; over a suspend and a fork."""
    microvm = launch(probe_image)
    assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
    microvm.suspend()
    microvm.resume()
    assert [microvm.get(port=port)["port"] for port in PORTS] == PORTS
    (forked,) = gateway.clients.emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
    fork = Microvm(forked["microvmId"], forked["endpoint"], gateway)
    fork.wait_state("RUNNING")
    assert [fork.get(port=port)["port"] for port in PORTS] == PORTS
    hook = fork.request("POST", f"{BASE_PATH}/ready", port=8082)
    assert hook.status_code == 200
    fork.terminate()
    fork.wait_ended()


def test_a_port_may_move_from_one_address_to_another(launch: Launch, probe_image: Image) -> None:
    """Servers are started again, and bind anew: what was found of a port before does not stand in the way."""
    microvm = launch(probe_image)
    for where, address in (("localhost", "::1"), ("127.0.0.1", "127.0.0.1"), ("10.0.2.15", "10.0.2.15")):
        assert microvm.request(port=5173).status_code == 502
        microvm.shell(LOCALHOST.replace("WHERE", where))
        wait_for(f"{where} is reached", lambda: microvm.request(port=5173).status_code == 200, 30)
        assert microvm.get("/last", port=5173) == address


def test_packages_are_installed_by_name_in_a_running_microvm(launch: Launch, web_image: Image) -> None:
    """With apt-get and pip, from the registries of this machine, before and after a suspend; some megabytes too."""
    index = f"--index-url {os.environ['PIP_INDEX_URL']}" if "PIP_INDEX_URL" in os.environ else ""
    trust = "export PIP_BREAK_SYSTEM_PACKAGES=1; test -s /authorities.pem && export PIP_CERT=/authorities.pem;"
    pip = f"{trust} pip --disable-pip-version-check --no-cache-dir"
    microvm = launch(web_image)
    installs(microvm, "apt-get update && apt-get install -y --no-install-recommends tree && tree --version")
    installs(microvm, f"{pip} install {index} idna && python3 -c 'import idna'")
    microvm.suspend()
    microvm.resume()
    installs(microvm, f"{pip} download {index} --no-deps --dest /tmp/wheels cryptography && ls /tmp/wheels/crypto*")


def installs(microvm: Microvm, command: str) -> None:
    """Run a command in the guest, for as long as an emulated one needs; requests have a limit of their own."""
    microvm.shell(f"rm -f /tmp/code; (({command}) >/tmp/log 2>&1; echo $? >/tmp/code) >/dev/null 2>&1 &")
    code = wait_for(command, lambda: microvm.shell("cat /tmp/code 2>/dev/null || true").strip(), 300, 1)
    assert code == "0", microvm.shell("tail -n 20 /tmp/log")
