"""One file of certificate authorities for every client: those that it trusted before, and the gateway's.

A client that is told of a file trusts nothing else, so a file with the gateway's authority alone would break all other
TLS (package registries, other services).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import botocore

from emberbox.model.errors import HostError

FILE_NAME: Final = "ca-bundle.pem"
VARIABLES: Final = (
    "AWS_CA_BUNDLE",  # botocore, the AWS CLI
    "SSL_CERT_FILE",  # OpenSSL: Python's ssl, httpx, curl of many builds; Go; rustls-native-certs
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
"""What clients read the file's path from."""

SYSTEM_STORES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, Amazon Linux
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # macOS
)
_WITHOUT_A_STORE: Final = Path(botocore.__file__).with_name("cacert.pem")
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def bundle_path(home: Path) -> Path:
    """Return where the file is."""
    return home / FILE_NAME


def write_bundle(
    home: Path, authority: Path, environment: Mapping[str, str], stores: tuple[Path, ...] = SYSTEM_STORES
) -> Path:
    """Write the file anew, unless it is as it should be; return its path.

    Args:
        home: the server's.
        authority: what the gateway's certificate is checked with; not there before the first start has ended.
        environment: names files that the user trusts already, of a company's proxy for example.
        stores: where systems keep their authorities; botocore's own file stands in where there is none.

    Raises:
        HostError: it cannot be written.
    """
    path = bundle_path(home)
    named = [Path(environment[name]) for name in VARIABLES if environment.get(name)]
    system = next((store for store in stores if store.is_file()), _WITHOUT_A_STORE)
    certificates: dict[str, None] = {}  # each once, in order
    for source in (authority, *(one for one in named if one != path), system):
        certificates |= dict.fromkeys(_read(source))
    text = "".join(f"{certificate}\n" for certificate in certificates)
    try:
        if not path.is_file() or path.read_text() != text:
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(text)
            fresh.replace(path)
    except OSError as error:
        raise HostError(f"{path} cannot be written ({error.strerror}), so that clients trust the gateway") from error
    return path


def _read(path: Path) -> list[str]:
    """Return the certificates in a file; none where it cannot be read."""
    try:
        return _CERTIFICATE.findall(path.read_text(errors="replace"))
    except OSError:
        return []
