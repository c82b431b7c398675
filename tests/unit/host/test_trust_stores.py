"""Which authorities builds and guests trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.host.trust_stores import find_build_authorities, find_system_store, join, read_certificates
from emberbox.model.errors import HostError


def certificate(name: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The store of a system that has `root` and, added already, `company`."""
    path = tmp_path / "store.pem"
    path.write_text(f"# roots\n{certificate('root')}\n{certificate('company')}\n")
    return path


def test_those_that_were_added_to_the_machine_come_with_the_systems_own(tmp_path: Path, system: Path) -> None:
    """Each once, also from folders below; what is no certificate, and Emberbox's own authority, is left out."""
    added = tmp_path / "added"
    (added / "deeper").mkdir(parents=True)
    (added / "deeper/company.crt").write_text(certificate("company"))
    (added / "notes.txt").write_text(certificate("notes"))
    (added / "emberbox-01234567.crt").write_text(certificate("own"))
    found = find_build_authorities("", added, (system,))
    assert found == join([certificate("company"), certificate("root")])


def test_where_nothing_was_added_nothing_is_done(tmp_path: Path, system: Path) -> None:
    (tmp_path / "emberbox-01234567.crt").write_text(certificate("own"))
    assert find_build_authorities("", tmp_path, (system,)) == ""
    assert find_build_authorities("", tmp_path / "missing", (system,)) == ""


def test_a_file_is_taken_in_place_of_them_and_none_means_none(tmp_path: Path, system: Path) -> None:
    (tmp_path / "added.crt").write_text(certificate("added"))
    (tmp_path / "named.pem").write_text(certificate("named"))
    found = find_build_authorities(str(tmp_path / "named.pem"), tmp_path, (system,))
    assert found == join(map(certificate, ("named", "root", "company")))
    assert find_build_authorities("none", tmp_path, (system,)) == ""


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_a_certificate_is_an_error(tmp_path: Path, system: Path, content: str | None) -> None:
    path = tmp_path / "named.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(HostError, match="EMBERBOX_BUILD_CA"):
        find_build_authorities(str(path), tmp_path, (system,))


def test_a_machine_without_a_store_has_one_all_the_same(tmp_path: Path) -> None:
    assert read_certificates(find_system_store((tmp_path / "missing",)))
