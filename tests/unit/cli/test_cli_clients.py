"""What `up`, `quickstart` and `doctor` say of clients, and what they mend when they are asked to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_world import write_home

from emberbox import doctor
from emberbox.cli.clients import find_name_problems, find_trust_problems, mend_clients
from emberbox.cli.context import Server, read_server
from emberbox.doctor import Check
from emberbox.model.errors import HostError
from emberbox.settings import load

UNKNOWN = {"EMBERBOX_DOMAIN": "ember.invalid"}


@pytest.fixture
def apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that only notes what it is asked for; the file of its notes."""
    tools, notes = tmp_path / "tools", tmp_path / "notes"
    tools.mkdir()
    (tools / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>{notes}\n')
    (tools / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return notes


@pytest.fixture
def unresolved(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(_: object) -> Check:
        return Check("names", ok=False, detail="it does not resolve", remedy="mend it", required=False)

    monkeypatch.setattr(doctor, "check_name", check)


async def test_names_are_mended_by_a_package_when_asked(home: Path, apt_get: Path, unresolved: None) -> None:
    said: list[str] = []
    await mend_clients(load(), said.append)
    assert apt_get.read_text().split()[-1] == "libnss-myhostname"
    assert len(said) == 1


async def test_names_that_resolve_are_left_alone(home: Path, apt_get: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(_: object) -> Check:
        return Check("names", ok=True, detail="")

    monkeypatch.setattr(doctor, "check_name", check)
    await mend_clients(load(), lambda _: pytest.fail("nothing is to be done"))
    assert not apt_get.exists()


async def test_no_package_helps_with_a_domain_of_the_operators(home: Path, apt_get: Path, unresolved: None) -> None:
    await mend_clients(load({**UNKNOWN, "EMBERBOX_HOME": str(home)}), lambda _: None)
    assert not apt_get.exists()


async def test_who_may_not_install_is_told_the_command(
    home: Path, apt_get: Path, unresolved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="sudo apt-get install libnss-myhostname"):
        await mend_clients(load(), lambda _: None)
    assert not apt_get.exists()


async def test_an_installation_that_fails_says_so(home: Path, apt_get: Path, unresolved: None) -> None:
    (apt_get.parent / "tools" / "apt-get").write_text("#!/bin/sh\necho no such package >&2; exit 100\n")
    with pytest.raises(HostError, match=r"was not installed: .*no such package"):
        await mend_clients(load(), lambda _: None)


async def test_without_apt_it_is_not_for_us(home: Path, unresolved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(HostError, match="only Debian"):
        await mend_clients(load(), lambda _: None)


async def test_a_name_is_told_in_one_line_with_its_remedy(home: Path) -> None:
    (line,) = await find_name_problems(load({**UNKNOWN, "EMBERBOX_HOME": str(home)}))
    assert "ember.invalid does not resolve here" in line
    assert "*.lambda-microvm.us-east-1.ember.invalid" in line
    assert "\n" not in line


async def test_trust_is_tried_with_what_env_prints(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def check(_: object, environment: dict[str, str]) -> list[Check]:
        asked.append(environment["SSL_CERT_FILE"])
        return [Check("trust", ok=False, detail="Python does not trust it", remedy="eval", required=False)]

    monkeypatch.setattr(doctor, "check_trust", check)
    write_home(home, os.getpid(), 1)
    server = read_server(home)
    assert isinstance(server, Server)
    (line,) = await find_trust_problems(load(), server)
    assert asked == [str(home / "ca-bundle.pem")]
    assert (home / "ca-bundle.pem").exists()
    assert line.startswith("Python does not trust it; restart the server")
    own = load({"EMBERBOX_HOME": str(home), "EMBERBOX_TLS_CERTIFICATE": "/own.pem"})
    assert "EMBERBOX_TLS_AUTHORITY" in (await find_trust_problems(own, server))[0]
