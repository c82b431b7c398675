"""One file of certificate authorities for every client: those that it trusted before, and the gateway's.

A client that is told of a file trusts nothing else, so a file with the gateway's authority alone would break all other
TLS (package registries, other services).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from emberbox.host.trust_stores import SYSTEM_STORES, find_system_store, join, read_certificates
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
    sources = (authority, *(one for one in named if one != path), find_system_store(stores))
    text = join(certificate for source in sources for certificate in read_certificates(source))
    try:
        if not path.is_file() or path.read_text() != text:
            fresh = path.with_suffix(f".{os.getpid()}")
            fresh.write_text(text)
            fresh.replace(path)
    except OSError as error:
        raise HostError(f"{path} cannot be written ({error.strerror}), so that clients trust the gateway") from error
    return path
