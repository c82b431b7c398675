"""AWS's own host names: clients that are told of no address, in network and mount namespaces of the test's own."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.host.ports import free_port
from support.server import Server, make_home

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and port 443 are root's"),
]

NAMESPACES = """
ip link set lo up
mount --bind "$HOSTS" /etc/hosts
exec "$@"
"""
LIFE = """
import boto3
code = boto3.client("s3")
code.create_bucket(Bucket="fixed-names")
code.put_object(Bucket="fixed-names", Key="a key/ü", Body=b"x" * 100_000)
size = len(code.get_object(Bucket="fixed-names", Key="a key/ü")["Body"].read())
print(code.meta.endpoint_url, size)
microvms = boto3.client("lambda-microvms")
print(microvms.meta.endpoint_url, microvms.list_microvms()["items"])
print(boto3.client("sts").get_caller_identity()["Account"])
print(len(boto3.client("logs").describe_log_groups()["logGroups"]) >= 0)
"""


class OwnServer(Server):
    """A server that has a network, with port 443, and a hosts file of its own."""

    @property
    def hosts(self) -> Path:
        """Its hosts file."""
        return self.home.parent / "hosts"

    def launch(self) -> subprocess.Popen[bytes]:
        self.hosts.write_text("127.0.0.1 localhost\n")
        return super().launch()

    def command(self, *arguments: str) -> list[str]:
        plain = super().command(*arguments)
        if self.process is None:
            self.environment["HOSTS"] = str(self.hosts)
            return ["unshare", "--net", "--mount", "bash", "-ec", NAMESPACES, "bash", *plain]
        return self.inside(*plain)

    def inside(self, *command: str) -> list[str]:
        """Return a command line that is run where the server is."""
        assert self.process is not None
        return ["nsenter", "--target", str(self.process.pid), "--net", "--mount", *command]


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    server = OwnServer(
        make_home(), gateway_port="9443", https_port="443", network="user", engine="qemu", accelerator="tcg"
    )
    with server.running():
        yield server


def run(server: OwnServer, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(server.home.parent), **more}
    return subprocess.run(
        server.inside(*command), env=environment, capture_output=True, text=True, timeout=300, encoding="utf-8"
    )


def emberbox(server: OwnServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = [sys.executable, "-m", "emberbox.cli.main", *arguments]
    return run(server, *plain, EMBERBOX_HOME=str(server.home))


def test_clients_without_any_address_come_here_and_no_more_when_it_is_undone(server: OwnServer) -> None:
    before, machines = server.hosts.read_text(), Path("/etc/hosts").read_text()
    assert server.endpoints["https_port"] == 443
    done = emberbox(server, "trust", "--aws-names", "--write", "--bucket", "fixed-names")
    assert done.returncode == 0, done.stderr
    printed = json.loads(emberbox(server, "env", "--format", "json").stdout)
    told = {
        name: printed[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_CA_BUNDLE")
    }
    told |= {"AWS_DEFAULT_REGION": told["AWS_REGION"], "PYTHONIOENCODING": "utf-8"}

    life = run(server, sys.executable, "-c", LIFE, **told)
    assert life.returncode == 0, life.stderr
    assert life.stdout.splitlines() == [
        "https://s3.amazonaws.com 100000",
        "https://lambda.us-east-1.amazonaws.com []",
        server.endpoints["account_id"],
        "True",
    ]
    aws = str(Path(sys.executable).with_name("aws"))
    who = run(server, aws, "sts", "get-caller-identity", "--query", "Account", "--output", "text", **told)
    assert who.stdout.strip() == server.endpoints["account_id"], who.stderr

    assert emberbox(server, "trust", "--aws-names", "--remove").returncode == 0
    assert server.hosts.read_text() == before
    gone = run(server, sys.executable, "-c", LIFE, **told)
    assert "EndpointConnectionError" in gone.stderr
    assert Path("/etc/hosts").read_text() == machines


def test_the_second_port_is_taken_over_with_envoy_when_a_server_was_killed() -> None:
    port = free_port()
    server = Server(make_home(), https_port=str(port), network="user", engine="qemu", accelerator="tcg")
    try:
        server.start()
        assert server.endpoints["https_port"] == port
        (server.home / "runtime/aws-names").touch()
        server.kill()
        server.start()
        assert server.endpoints["https_port"] == port, "it is our own Envoy that has it"
        certificate = ssl.create_default_context(cafile=server.endpoints["ca_bundle"])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            certificate.wrap_socket(plain, server_hostname="lambda.us-east-1.amazonaws.com").close()
    finally:
        server.remove()
