"""AWS's names: the lines of a hosts file, and what is undone of it."""

from __future__ import annotations

import os
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import LogsApi, write_home
from typer.testing import CliRunner

from emberbox.cli import aws_names, trust
from emberbox.cli.aws_names import answer_aws_names, render_hosts, without_lines, write_hosts
from emberbox.cli.context import Server, read_server
from emberbox.cli.main import app
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.errors import HostError
from emberbox.spec.aws_names import FLAG
from emberbox.spec.aws_names import aws_names as names_in

HOSTS = "127.0.0.1\tlocalhost\n# end of mine"


class _Tls(socketserver.ThreadingTCPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def get_request(self) -> tuple[ssl.SSLSocket, object]:
        plain, address = super().get_request()
        return self.context.wrap_socket(plain, server_side=True), address


@pytest.fixture
def server(home: Path, logs_api: LogsApi, tmp_path: Path) -> Iterator[Server]:
    """A server whose second port presents a certificate for AWS's names, and the API plays nothing."""
    (home / "runtime").mkdir(exist_ok=True)
    made = ensure_certificates(home / "tls", names_in("eu-west-1").patterns)
    with _Tls(("127.0.0.1", 0), socketserver.BaseRequestHandler) as tls:
        tls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.context.load_cert_chain(made.certificate_path, made.key_path)
        thread = threading.Thread(target=tls.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        port, authority = tls.server_address[1], str(made.authority_path)
        write_home(home, os.getpid(), logs_api.server_address[1], ca_bundle=authority, https_port=port)
        found = read_server(home)
        assert found is not None
        yield found
        tls.shutdown()
        thread.join()


def test_lines_are_printed_and_nothing_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    monkeypatch.setattr(trust, "HOSTS", hosts)
    result = CliRunner().invoke(app, ["trust", "--aws-names", "--bucket", "code"])
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    for name in ("lambda.eu-west-1.amazonaws.com", "sts.amazonaws.com", "code.s3.eu-west-1.amazonaws.com"):
        assert f"127.0.0.1 {name}" in lines
    assert not any("*" in line for line in lines)
    assert hosts.read_text() == HOSTS
    assert (server.home / FLAG).exists()


def test_they_are_written_once_and_removed_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{HOSTS}\n")
    monkeypatch.setattr(trust, "HOSTS", hosts)
    for _ in range(2):
        assert CliRunner().invoke(app, ["trust", "--aws-names", "--write"]).exit_code == 0
        assert hosts.read_text() == f"{HOSTS}\n{render_hosts(server, [])}"
    for _ in range(2):
        assert CliRunner().invoke(app, ["trust", "--aws-names", "--remove"]).exit_code == 0
        assert hosts.read_text() == f"{HOSTS}\n"
        assert not (server.home / FLAG).exists()


def test_lines_of_others_stay(server: Server, tmp_path: Path) -> None:
    mine = render_hosts(server, [])
    other = mine.replace(str(server.home), "/another")
    assert without_lines(f"{other}{mine}{HOSTS}", server.home) == f"{other}{HOSTS}"


def test_a_file_without_a_last_line_end_gets_one(server: Server, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    write_hosts(hosts, server.home, render_hosts(server, []))
    assert hosts.read_text().startswith(f"{HOSTS}\n# begin emberbox aws-names")


def test_a_file_that_cannot_be_changed_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be changed"):
        write_hosts(tmp_path / "none" / "hosts", server.home, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace of its own is root's")
def test_a_hosts_file_that_is_a_mount_is_written_in_its_place(tmp_path: Path) -> None:
    source, hosts = tmp_path / "source", tmp_path / "hosts"
    source.write_text("old\n")
    hosts.touch()
    script = f"""
mount --bind {source} {hosts}
{sys.executable} - <<'END'
from pathlib import Path
from emberbox.cli.aws_names import write_hosts
write_hosts(Path({str(hosts)!r}), Path("/h"), "new\\n")
END
"""
    subprocess.run(["unshare", "--mount", "bash", "-ec", script], check=True, timeout=120)
    assert source.read_text() == "old\nnew\n"


def test_without_a_second_port_it_says_what_to_do(home: Path, logs_api: LogsApi) -> None:
    write_home(home, os.getpid(), logs_api.server_address[1], ca_bundle=str(home / "ca.pem"))
    (home / "ca.pem").touch()
    result = CliRunner().invoke(app, ["trust", "--aws-names"])
    assert result.exit_code == 1
    assert "EMBERBOX_HTTPS_PORT" in result.stderr
    assert not (home / FLAG).exists()


def test_a_server_that_does_not_answer_in_time_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_names, "_WAIT_S", 0.2)
    monkeypatch.setattr(aws_names, "_find_problem", lambda *_: "certificate verify failed")
    with pytest.raises(HostError, match=r"does not answer lambda\.eu-west-1\.amazonaws\.com .* verify failed"):
        answer_aws_names(server)
