"""Certificate authorities: those that systems come with, and those that an operator has added to this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import botocore

from emberbox.model.errors import HostError

SYSTEM_STORES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, Amazon Linux
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # macOS
)
ADDED: Final = Path("/usr/local/share/ca-certificates")
"""Where update-ca-certificates(8) takes an operator's authorities from."""

NONE: Final = "none"
_OWN: Final = "emberbox-"
"""Begins the names of files that `emberbox trust --install` has put there."""

_WITHOUT_A_STORE: Final = Path(botocore.__file__).with_name("cacert.pem")
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def find_system_store(stores: Iterable[Path] = SYSTEM_STORES) -> Path:
    """Return the file with the authorities of this machine; botocore's own stands in where there is none."""
    return next((store for store in stores if store.is_file()), _WITHOUT_A_STORE)


def read_certificates(path: Path) -> list[str]:
    """Return the certificates in a file (PEM); none where it cannot be read."""
    try:
        return _CERTIFICATE.findall(path.read_text(errors="replace"))
    except OSError:
        return []


def join(certificates: Iterable[str]) -> str:
    """Return the text of a file that has each of these once, in order."""
    return "".join(f"{certificate}\n" for certificate in dict.fromkeys(certificates))


def find_build_authorities(named: str, added: Path = ADDED, stores: Iterable[Path] = SYSTEM_STORES) -> str:
    """Return what builds and guests shall trust, as the text of one file: the system's authorities and the operator's.

    Whoever is told of a file trusts nothing else, so the operator's alone would break all other TLS.

    Args:
        named: the setting EMBERBOX_BUILD_CA: a file, `none`, or empty for those that were added to this machine.
        added: the directory of these.
        stores: where systems keep their own.

    Returns:
        empty where the operator has none.

    Raises:
        HostError: the named file cannot be read, or has no certificate.
    """
    if named == NONE:
        return ""
    if named:
        found = read_certificates(Path(named))
        if not found:
            raise HostError(f"{named} (EMBERBOX_BUILD_CA) cannot be read or has no certificate; it must be a PEM file")
    else:
        files = sorted(path for path in added.rglob("*.crt") if not path.name.startswith(_OWN))
        found = [certificate for path in files for certificate in read_certificates(path)]
    return join([*found, *read_certificates(find_system_store(stores))]) if found else ""
