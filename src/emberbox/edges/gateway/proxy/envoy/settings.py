"""What Envoy's configuration depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from emberbox.time_limits import limit_s


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
