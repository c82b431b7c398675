"""The combined file of authorities: what was trusted before, and the gateway's."""

from __future__ import annotations

import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emberbox.cli.bundle import VARIABLES, bundle_path, write_bundle
from emberbox.edges.gateway.tls.certificates import Certificates, ensure_certificates
from emberbox.model.errors import HostError


def certificate(name: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n"


def write(path: Path, *names: str) -> Path:
    path.write_text("# words\n" + "\n".join(map(certificate, names)))
    return path


def test_the_gateways_comes_first_and_nothing_that_was_trusted_is_lost(tmp_path: Path) -> None:
    own, store = write(tmp_path / "ca.pem", "own"), write(tmp_path / "store", "one", "two")
    company = write(tmp_path / "company", "proxy", "one")
    environment = {"REQUESTS_CA_BUNDLE": str(company), "SSL_CERT_FILE": str(tmp_path / "gone")}
    path = write_bundle(tmp_path, own, environment, (tmp_path / "none", store))
    assert path == bundle_path(tmp_path)
    assert path.read_text() == "".join(map(certificate, ("own", "proxy", "one", "two")))


def test_a_second_time_it_is_not_its_own_source(tmp_path: Path) -> None:
    own, store = write(tmp_path / "ca.pem", "old"), write(tmp_path / "store", "one")
    environment = dict.fromkeys(VARIABLES, str(bundle_path(tmp_path)))
    write_bundle(tmp_path, own, environment, (store,))
    before = bundle_path(tmp_path).stat()
    write_bundle(tmp_path, own, environment, (store,))
    assert bundle_path(tmp_path).stat().st_ino == before.st_ino, "it is written only when it changes"
    write(own, "new")
    text = write_bundle(tmp_path, own, environment, (store,)).read_text()
    assert text == certificate("new") + certificate("one")


def test_without_a_store_botocores_stands_in(tmp_path: Path) -> None:
    text = write_bundle(tmp_path, tmp_path / "not yet", {}, (tmp_path / "none",)).read_text()
    assert text.count("BEGIN CERTIFICATE") > 50


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        write_bundle(tmp_path / "missing", tmp_path / "ca.pem", {}, ())


# --- each variable, by the real client that reads it

_SETTINGS_FRAME = b"\0\0\0\4\0\0\0\0\0"  # RFC 9113, section 6.5: all that a gRPC channel waits for
_BY_BOTOCORE = """
import sys, botocore.session
from botocore.exceptions import SSLError
client = botocore.session.get_session().create_client(
    "sts", "us-east-1", endpoint_url=sys.argv[1], aws_access_key_id="a", aws_secret_access_key="b"
)
try:
    client.get_caller_identity()
except SSLError:
    sys.exit(1)
except Exception:
    pass
"""
_BY_GRPC = """
import sys, grpc
channel = grpc.secure_channel(sys.argv[1].removeprefix("https://"), grpc.ssl_channel_credentials())
grpc.channel_ready_future(channel).result(timeout=float(sys.argv[2]))
"""
_BY_NODE = "fetch(process.argv[1]).then(() => process.exit(0), () => process.exit(1))"
READERS = {
    "AWS_CA_BUNDLE": [sys.executable, "-c", _BY_BOTOCORE],
    "SSL_CERT_FILE": [sys.executable, "-c", "import httpx, sys; httpx.get(sys.argv[1])"],
    # requests as pip carries it along, unchanged
    "REQUESTS_CA_BUNDLE": [
        sys.executable,
        "-c",
        "import sys; from pip._vendor import requests as r; r.get(sys.argv[1])",
    ],
    "CURL_CA_BUNDLE": ["curl", "-sS", "--http1.1", "--output", os.devnull],
    "NODE_EXTRA_CA_CERTS": ["node", "-e", _BY_NODE, "--"],
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": [sys.executable, "-c", _BY_GRPC],
}


class _Handler(socketserver.StreamRequestHandler):
    """Answers HTTP/1.1 with nothing to say, and greets HTTP/2."""

    def handle(self) -> None:
        if self.connection.selected_alpn_protocol() == "h2":
            self.wfile.write(_SETTINGS_FRAME)
            self.rfile.read()
        elif self.rfile.readline():
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


class _TlsServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, paths: Certificates) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        self.context.load_cert_chain(paths.certificate_path, paths.key_path)

    def get_request(self) -> tuple[socket.socket, object]:
        plain, address = super().get_request()
        return self.context.wrap_socket(plain, server_side=True), address  # a refusal is an OSError, which is ignored


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A TLS server of a local authority: its URL, and the file that `emberbox env` would name."""
    home = tmp_path_factory.mktemp("home")
    paths = ensure_certificates(home / "tls", ["localhost"])
    with _TlsServer(paths) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}", write_bundle(home, paths.authority_path, {})
        server.shutdown()
        thread.join()


def ask(variable: str, url: str, environment: dict[str, str], tmp_path: Path, seconds: float) -> int:
    command = [*READERS[variable], url, *([str(seconds)] if "grpc" in variable.lower() else [])]
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, timeout=120).returncode


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_client_that_reads_a_variable_trusts_by_it(
    variable: str, endpoint: tuple[str, Path], tmp_path: Path
) -> None:
    url, bundle = endpoint
    assert shutil.which(READERS[variable][0]), "curl and Node are test dependencies"
    assert ask(variable, url, {variable: str(bundle)}, tmp_path, 60) == 0
    assert ask(variable, url, {}, tmp_path, 3) != 0
