"""A server certificate of the operator's own, instead of one that the local authority signs."""

from __future__ import annotations

import datetime as dt
import logging
import ssl
from pathlib import Path

from cryptography import x509

from emberbox.edges.gateway.tls.certificates import Certificates
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)

_SYSTEM_STORE = Path("/etc/ssl/certs/ca-certificates.crt")


def load_own_certificate(
    certificate_path: Path, key_path: Path, authority_path: Path | None, *names: str
) -> Certificates:
    """Check an operator's certificate, so that a mistake shows at the start and not in every client.

    Args:
        certificate_path: the certificate and its chain (PEM).
        key_path: its key (PEM), without a password.
        authority_path: what clients check it with; by default the system's store.
        names: what it must be for; a certificate for other names is used, with a warning.

    Raises:
        HostError: a file cannot be read, the two do not belong together, or the certificate has ended.
    """
    for path in (certificate_path, key_path, authority_path or _SYSTEM_STORE):
        try:
            path.read_bytes()
        except OSError as error:
            raise HostError(f"{path} cannot be read ({error.strerror}); see EMBERBOX_TLS_CERTIFICATE") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate_path, key_path, password="")
        certificate = x509.load_pem_x509_certificates(certificate_path.read_bytes())[0]
    except (ssl.SSLError, ValueError) as error:
        raise HostError(
            f"{certificate_path} (EMBERBOX_TLS_CERTIFICATE) and {key_path} (EMBERBOX_TLS_KEY) are not a certificate "
            f"and its key in PEM, without a password: {error}"
        ) from error
    if certificate.not_valid_after_utc <= dt.datetime.now(dt.UTC):
        raise HostError(f"{certificate_path} (EMBERBOX_TLS_CERTIFICATE) ended at {certificate.not_valid_after_utc}")
    for name in sorted(set(names) - set(_names(certificate))):
        log.warning("the certificate %s is not for %s: clients will not trust endpoints", certificate_path, name)
    return Certificates(authority_path or _SYSTEM_STORE, certificate_path, key_path)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return found.get_values_for_type(x509.DNSName)
