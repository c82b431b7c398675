"""The combined file of authorities: what was trusted before, and the gateway's."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.cli.bundle import VARIABLES, bundle_path, write_bundle
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
