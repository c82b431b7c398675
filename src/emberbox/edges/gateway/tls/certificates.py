"""The gateway's certificates: a certificate authority of our own, and the server certificate that it signs.

Clients are told once to trust the authority (`ca.pem`); the server certificate is renewed without them. The
extensions are those that strict verifiers ask for (RFC 5280: key identifiers and usages; browsers: SANs
only).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from emberbox.model.errors import HostError

_AUTHORITY_LIFE: Final = dt.timedelta(days=3650)
_SERVER_LIFE: Final = dt.timedelta(days=397)  # browsers refuse server certificates that last longer than 398 days
_RENEW_BEFORE: Final = dt.timedelta(days=30)
_CLOCK_SKEW: Final = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """Where the files are, all PEM: the authority to trust, and what the server presents."""

    authority_path: Path
    certificate_path: Path
    key_path: Path


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def endpoint_names(region: str, domain: str, *more: str) -> list[str]:
    """Name everything the gateway answers to: DNS names first, then IP addresses.

    Args:
        region: in the names of endpoints.
        domain: what they end with.
        more: further domains, each name below which is answered to.
    """
    below = [f"*.{one}" for one in more]
    names = [f"*.lambda-microvm.{region}.{domain}", *below, domain, "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(names))


def ensure_certificates(
    directory: Path, names: Sequence[str], now: dt.datetime | None = None, *, name: str = "server"
) -> Certificates:
    """Make what is missing, renew what ends within 30 days or has other names, keep the rest.

    Args:
        directory: where the files live; made when it is missing. Only one process may work in it at a time.
        names: the DNS names and IP addresses of the server.
        now: the time to judge by, with a time zone; by default the clock's.
        name: what the files of the server certificate are called; the authority is one for all.

    Raises:
        HostError: the directory cannot be used, or a key in it is readable by others.
    """
    now = now or dt.datetime.now(dt.UTC)
    paths = Certificates(directory / "ca.pem", directory / f"{name}.pem", directory / f"{name}.key")
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = _ensure_authority(paths.authority_path, directory / "ca.key", now)
        _ensure_server(paths, authority, names, now)
    except OSError as error:
        raise HostError(f"certificates cannot be kept in {directory}: {error.strerror}") from error
    return paths


def _ensure_authority(certificate_path: Path, key_path: Path, now: dt.datetime) -> _Pair:
    pair = _load(certificate_path, key_path)
    if pair is not None and now < pair.certificate.not_valid_after_utc - _RENEW_BEFORE:
        return pair
    pair = _make_authority(now)
    _store(pair, [pair.certificate], certificate_path, key_path)
    return pair


def _ensure_server(paths: Certificates, authority: _Pair, names: Sequence[str], now: dt.datetime) -> None:
    pair = _load(paths.certificate_path, paths.key_path)
    if pair is not None and _is_current(pair.certificate, authority, names, now):
        return
    pair = _make_server(authority, names, now)
    _store(pair, [pair.certificate, authority.certificate], paths.certificate_path, paths.key_path)


def _is_current(certificate: x509.Certificate, authority: _Pair, names: Sequence[str], now: dt.datetime) -> bool:
    """Say whether a server certificate lasts, has the wanted names, and is of this authority."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # whatever is wrong with it, the remedy is a new one
        return False
    wanted = x509.SubjectAlternativeName([_general_name(name) for name in names])
    lasts = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - _RENEW_BEFORE
    return lasts and found == wanted


def _make_authority(now: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number tells two authorities apart, of two machines, in one trust store.
    serial = x509.random_serial_number()
    name = _name(f"Emberbox local authority {serial % 0xFFFFFF:06x}")
    builder = (
        _builder(name, name, key, now, _AUTHORITY_LIFE)
        .serial_number(serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: _Pair, names: Sequence[str], now: dt.datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    life = min(_SERVER_LIFE, issuer.not_valid_after_utc - now)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name("Emberbox gateway"), issuer.subject, key, now, life)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        .add_extension(identifier, critical=False)
    )
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: dt.datetime,
    life: dt.timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _load(certificate_path: Path, key_path: Path) -> _Pair | None:
    """Read a certificate and its key; None when they are missing, damaged, or do not belong together."""
    if not (certificate_path.exists() and key_path.exists()):
        return None
    if key_path.stat().st_mode & 0o077:
        raise HostError(f"the key {key_path} is open to other users; run: chmod 600 {key_path}")
    with contextlib.suppress(ValueError, TypeError):
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == certificate.public_key():
            return _Pair(certificate, key)
    return None


def _store(pair: _Pair, chain: Sequence[x509.Certificate], certificate_path: Path, key_path: Path) -> None:
    """Write key, then certificate. Cut off in between, they do not fit: the next call makes both anew."""
    private = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key_path, private, 0o600)
    _write(certificate_path, b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain), 0o644)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place, whole and on disk, or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
