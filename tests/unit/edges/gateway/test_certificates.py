"""The local authority and the server certificate, judged by OpenSSL's strict rules."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from emberbox import process
from emberbox.edges.gateway.tls.certificates import Certificates, endpoint_names, ensure_certificates
from emberbox.model.errors import HostError

NAMES = endpoint_names("eu-west-1", "microvms.test")
DAY = dt.timedelta(days=1)


async def handshake(made: Certificates, name: str, authority: Path | None = None) -> None:
    """Do a TLS handshake over real sockets, strictly verified.

    Raises:
        ssl.SSLError: the client does not accept the certificate.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(made.certificate_path, made.key_path)
    client_context = ssl.create_default_context(cafile=str(authority or made.authority_path))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    server = await asyncio.start_server(lambda _, w: w.close(), "127.0.0.1", 0, ssl=server_context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context, server_hostname=name)
        writer.close()


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


@pytest.mark.parametrize(
    "name", ["aaaa.lambda-microvm.eu-west-1.microvms.test", "microvms.test", "localhost", "127.0.0.1", "::1"]
)
async def test_a_strict_verifier_accepts_every_name(tmp_path: Path, name: str) -> None:
    await handshake(ensure_certificates(tmp_path / "tls", NAMES), name)


@pytest.mark.parametrize(
    "name",
    ["a.b.lambda-microvm.eu-west-1.microvms.test", "x.microvms.test", "a.lambda-microvm.us-east-1.on.aws"],
)
async def test_no_other_name_is_accepted(tmp_path: Path, name: str) -> None:
    made = ensure_certificates(tmp_path / "tls", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(made, name)


async def test_another_authority_is_not_accepted(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path / "tls", NAMES)
    other = ensure_certificates(tmp_path / "other", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(made, "localhost", other.authority_path)


async def test_openssl_finds_the_certificate_fit_for_a_server(tmp_path: Path) -> None:
    made = ensure_certificates(tmp_path / "tls", NAMES)
    line = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]
    done = await process.run([*line, made.authority_path, made.certificate_path])
    assert done.stdout.strip().endswith(": OK")


def test_keys_are_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "tls", NAMES)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "tls").iterdir()}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "server.key": 0o600, "server.pem": 0o644}


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    before = contents(tmp_path)
    ensure_certificates(tmp_path, NAMES)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("days", "renewed"), [(360, False), (368, True), (500, True)])
def test_the_server_certificate_is_renewed_when_it_nears_its_end(tmp_path: Path, days: int, renewed: bool) -> None:
    ensure_certificates(tmp_path, NAMES)
    before = contents(tmp_path)
    ensure_certificates(tmp_path, NAMES, dt.datetime.now(dt.UTC) + days * DAY)
    after = contents(tmp_path)
    assert (after["server.pem"] != before["server.pem"]) is renewed
    assert after["ca.pem"] == before["ca.pem"]


def test_a_new_authority_brings_a_new_server_certificate_and_no_life_outlasts_it(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    near_end = dt.datetime.now(dt.UTC) + 3600 * DAY
    made = ensure_certificates(tmp_path, NAMES, near_end)
    authority, server = (
        x509.load_pem_x509_certificate(p.read_bytes()) for p in (made.authority_path, made.certificate_path)
    )
    assert server.not_valid_after_utc <= authority.not_valid_after_utc
    old = contents(tmp_path)
    made = ensure_certificates(tmp_path, NAMES, near_end + 90 * DAY)
    authority, server = (
        x509.load_pem_x509_certificate(p.read_bytes()) for p in (made.authority_path, made.certificate_path)
    )
    server.verify_directly_issued_by(authority)
    assert old["ca.pem"] != made.authority_path.read_bytes()


async def test_other_names_bring_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    before = ensure_certificates(tmp_path, NAMES).authority_path.read_bytes()
    made = ensure_certificates(tmp_path, endpoint_names("eu-west-1", "other.test"))
    assert made.authority_path.read_bytes() == before
    await handshake(made, "other.test")


@pytest.mark.parametrize("damaged", ["server.key", "server.pem", "ca.key", "ca.pem"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_a_missing_or_damaged_file_is_made_anew(tmp_path: Path, damaged: str, content: bytes | None) -> None:
    ensure_certificates(tmp_path, NAMES)
    if content is None:
        (tmp_path / damaged).unlink()
    else:
        (tmp_path / damaged).write_bytes(content)
    await handshake(ensure_certificates(tmp_path, NAMES), "localhost")


def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    (tmp_path / "ca.key").chmod(0o644)
    with pytest.raises(HostError, match="chmod 600"):
        ensure_certificates(tmp_path, NAMES)


def test_a_domain_without_dots_is_named_once() -> None:
    assert endpoint_names("r", "localhost") == [
        "*.lambda-microvm.r.localhost",
        "localhost",
        "127.0.0.1",
        "::1",
    ]
