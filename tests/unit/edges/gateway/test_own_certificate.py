"""A certificate of the operator's own: checked at the start, presented to clients."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
from pathlib import Path

import pytest
from gateway_world import DOMAIN, REGION, FakeDirectory, start_own

from emberbox.control.endpoints.tokens import TokenKeys
from emberbox.edges.gateway.server import GatewaySettings
from emberbox.edges.gateway.tls.certificates import Certificates, endpoint_names, ensure_certificates
from emberbox.edges.gateway.tls.own_certificate import load_own_certificate
from emberbox.model.errors import HostError

NAME = f"*.lambda-microvm.{REGION}.{DOMAIN}"


@pytest.fixture
def own(tmp_path: Path) -> Certificates:
    """What an operator would bring: signed by an authority that is not the gateway's."""
    return ensure_certificates(tmp_path / "own", endpoint_names(REGION, DOMAIN))


async def test_the_gateway_presents_it_for_every_endpoint_of_the_domain(own: Certificates, tmp_path: Path) -> None:
    settings = GatewaySettings(tmp_path / "g", REGION, DOMAIN, own_certificate=own)
    async with start_own(settings, FakeDirectory(), TokenKeys(tmp_path / "keys.json")) as (gateway, _):
        assert gateway.authority_path == own.authority_path
        assert not (tmp_path / "g/tls").exists()
        name = f"aaaa.lambda-microvm.{REGION}.{DOMAIN}"
        command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", str(own.authority_path)]
        where = ["--resolve", f"{name}:{gateway.port}:127.0.0.1", f"https://{name}:{gateway.port}/"]
        done = await asyncio.to_thread(subprocess.run, [*command, *where], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "403"), done.stderr


def test_it_is_accepted_as_it_is(own: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    assert load_own_certificate(own.certificate_path, own.key_path, own.authority_path, NAME) == own
    assert not caplog.records


def test_one_for_another_name_is_used_with_a_warning(own: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    load_own_certificate(own.certificate_path, own.key_path, own.authority_path, "*.elsewhere.test")
    assert "*.elsewhere.test" in caplog.text


def test_files_that_are_missing_or_do_not_belong_together_are_refused(own: Certificates, tmp_path: Path) -> None:
    other = ensure_certificates(tmp_path / "other", ["localhost"])
    with pytest.raises(HostError, match="EMBERBOX_TLS_KEY"):
        load_own_certificate(own.certificate_path, other.key_path, own.authority_path, NAME)
    with pytest.raises(HostError, match="EMBERBOX_TLS_KEY"):
        load_own_certificate(own.key_path, own.key_path, own.authority_path, NAME)
    with pytest.raises(HostError, match="No such file"):
        load_own_certificate(tmp_path / "none.pem", own.key_path, own.authority_path, NAME)


def test_one_that_has_ended_is_refused(tmp_path: Path) -> None:
    old = ensure_certificates(tmp_path / "old", ["localhost"], dt.datetime.now(dt.UTC) - dt.timedelta(days=500))
    with pytest.raises(HostError, match="ended at"):
        load_own_certificate(old.certificate_path, old.key_path, old.authority_path, NAME)
