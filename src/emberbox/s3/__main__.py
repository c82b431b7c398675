"""The process of the embedded S3: `python -m emberbox.s3 HOME`; the rest is said by its environment."""

from __future__ import annotations

import fcntl
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from emberbox.s3.connection import CONNECTIONS_MAX, Server
from emberbox.s3.files import Files
from emberbox.s3.index import Index
from emberbox.s3.keyring import KeyRing
from emberbox.s3.migration import take_over
from emberbox.s3.service import Service

log = logging.getLogger("emberbox.s3")


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    home = Path(sys.argv[1])
    settings = os.environ
    directory = home / "objects"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier one that is ending may still write
        _allow_descriptors()
        files = Files(directory / "files")
        index = Index(directory / "index.db", files)
        with index.reading() as rows:
            swept = files.sweep(rows.file_names())
        if swept:
            log.info("%d files of requests that never ended were removed", swept)
        account_id, region = settings["EMBERBOX_S3_ACCOUNT"], settings["EMBERBOX_S3_REGION"]
        take_over(home / "s3", index, files, account_id, region)
        keys = KeyRing(home, settings["EMBERBOX_S3_DATABASE"], account_id)
        service = Service(index, files, keys.find, region, settings["EMBERBOX_S3_DOMAIN"])
        with _listen(settings["EMBERBOX_S3_ADDRESS"], int(settings["EMBERBOX_S3_PORT"])) as listener:
            log.info("serving at port %s", settings["EMBERBOX_S3_PORT"])
            Server(listener, service.respond).run()


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(CONNECTIONS_MAX)
    return listener


def _allow_descriptors() -> None:
    """Every connection may have its socket, a file and a database connection open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CONNECTIONS_MAX + 256
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))


if __name__ == "__main__":
    main()
