"""`emberbox trust`, with the machine's real tool on a store of its own."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path

import pytest
from cli_world import LogsApi, write_home
from typer.testing import CliRunner

from emberbox.cli import trust
from emberbox.cli.main import app
from emberbox.cli.trust import Store, change_store, stored_path
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.model.errors import HostError


@pytest.fixture
def authority(home: Path, logs_api: LogsApi) -> Path:
    """The authority of a server that runs, as far as its files tell."""
    made = ensure_certificates(home / "tls", ["localhost"], dt.datetime.now(dt.UTC))
    write_home(home, os.getpid(), logs_api.server_address[1], ca_bundle=str(made.authority_path))
    return made.authority_path


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "local", tmp_path / "made")
    store.local.mkdir()
    store.made.mkdir()
    return store


def subjects(bundle: Path) -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(bundle)
    return [str(dict(certificate)["subject"]) for certificate in context.get_ca_certs()]


def test_it_prints_the_authority_and_says_how_to_trust_it(authority: Path) -> None:
    result = CliRunner().invoke(app, ["trust"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == authority.read_text()
    for client in ("curl", "Firefox", "Chrome", "Node.js", "--install"):
        assert client in result.stderr


def test_it_is_installed_and_removed(authority: Path, store: Store) -> None:
    for _ in range(2):
        change_store(authority, store, install=True)
        assert any("Emberbox local authority" in subject for subject in subjects(store.made / "ca-certificates.crt"))
    for _ in range(2):
        change_store(authority, store, install=False)
        bundle = store.made / "ca-certificates.crt"
        assert "Emberbox" not in str(subjects(bundle) if bundle.stat().st_size else "")
    assert not stored_path(authority, store).exists()


def test_who_may_not_install_is_told_the_commands(
    authority: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(HostError, match=r"sudo install -m 644 .* && sudo update-ca-certificates"):
        change_store(authority, store, install=True)


def test_there_is_nothing_to_trust_where_the_certificate_is_the_operators(home: Path, logs_api: LogsApi) -> None:
    write_home(home, os.getpid(), logs_api.server_address[1], ca_bundle="/etc/ssl/certs/ca-certificates.crt")
    result = CliRunner().invoke(app, ["trust", "--install"])
    assert result.exit_code == 1
    assert "EMBERBOX_TLS_CERTIFICATE" in result.stderr
    assert trust.Store().update_args() == ["update-ca-certificates"]
