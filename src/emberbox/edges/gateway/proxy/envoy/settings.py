"""What Envoy's configuration depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emberbox.time_limits import limit_s


@dataclass(frozen=True, slots=True)
class AwsFront:
    """AWS's host names, where they are answered.

    Args:
        certificate_path: the certificate for them and its chain, PEM.
        key_path: its key, PEM.
        api_names: the names of the services that the API plays.
        s3_names: the names of S3 and its buckets, with wildcards; none where S3 is another's.
    """

    certificate_path: Path
    key_path: Path
    api_names: tuple[str, ...]
    s3_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HttpsPort:
    """A second port, whose listener Envoy reads from a file that may change while it runs.

    Args:
        port: the TCP port.
        listeners_path: the file.
        api_path: the Unix socket of the API, at most 107 bytes.
        s3_address: where the embedded S3 listens; None where there is none.
    """

    port: int
    listeners_path: Path
    api_path: Path
    s3_address: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """What the bootstrap depends on.

    Args:
        address: the IP address to listen on.
        port: the TCP port to listen on.
        certificate_path: the server certificate and its chain, PEM.
        key_path: its key, PEM.
        authoriser_path: the Unix socket of the authoriser, at most 107 bytes.
        data_plane_path: the Unix socket of the data plane, at most 107 bytes.
        admissions_path: the file that it shares with the server (admissions.py).
        admissions_inode: that file's number: where it is another file, Envoy must start anew.
        reports_path: the FIFO that takes reports of what crosses (traffic.py has their form).
        authorise_timeout_s: how long a request may be held while its microVM resumes.
        connect_timeout_s: how long a guest's port may take to accept.
        max_connections: client connections at once; more are closed at once.
        max_heap_mib: Envoy's heap; near it, it closes idle connections and then takes no new requests.
        https: a second port; None where there is none.
        e2b_path: the Unix socket of E2B's API, at most 107 bytes; None where that is not served.
    """

    address: str
    port: int
    certificate_path: Path
    key_path: Path
    authoriser_path: Path
    data_plane_path: Path
    admissions_path: Path
    admissions_inode: int
    reports_path: Path
    authorise_timeout_s: float = limit_s(120.0)
    connect_timeout_s: float = limit_s(2.0)
    max_connections: int = 20_000
    max_heap_mib: int = 1024
    https: HttpsPort | None = None
    e2b_path: Path | None = None
