"""The embedded S3: `rclone serve s3` over a directory, under the supervisor.

A bucket is a directory right below the served one, an object is a file in it. rclone writes an object to a
temporary file and renames it, with no cache in between: when a PUT is answered, everybody sees the whole
object, in the directory as well as through S3, and neither the server's death nor ours takes it away.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import http.client
import io
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emberbox.host.ports import keep_port
from emberbox.host.supervisor import Helper, find_program, find_running, supervise
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

_ADDRESS: Final = "127.0.0.1"
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9]{4,128}")
_HEADER_BYTES: Final = 65536  # rclone's default, 4096, is less than a presigned request with metadata may have


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What the embedded S3 depends on.

    Args:
        directory: what is served; made when missing.
        state_directory: for the log and the pid file; made when missing.
        access_key_id: the only identity that may call; letters and digits, at least 4 (rclone refuses less).
        secret_access_key: its secret.
        port: the port on the loopback; 0 takes a free one.
    """

    directory: Path
    state_directory: Path
    access_key_id: str
    secret_access_key: str = field(repr=False)
    port: int = 0


@dataclass(frozen=True, slots=True)
class S3Server:
    """An S3 that serves; `endpoint_url` is what clients are given."""

    endpoint_url: str


@contextlib.asynccontextmanager
async def start_s3_server(settings: S3Settings) -> AsyncIterator[S3Server]:
    """Serve S3 for as long as the block lasts.

    Args:
        settings: see there.

    Raises:
        HostError: rclone is missing, the access key id is not usable, or nothing serves within 30 s (the port
            is taken).
    """
    if not _ACCESS_KEY_ID.fullmatch(settings.access_key_id):
        raise HostError("the access key id of the embedded S3 must be 4 to 128 letters and digits")
    settings.directory.mkdir(parents=True, exist_ok=True)
    port = settings.port or keep_port(
        settings.state_directory / "port", _ADDRESS, held=find_running("s3", settings.state_directory) is not None
    )
    helper = Helper(
        name="s3",
        arguments=rclone_args(settings.directory, port),
        directory=settings.state_directory,
        environment=_environment(settings),
        is_ready=lambda: asyncio.to_thread(_answers, port, settings),
    )
    async with supervise(helper):
        yield S3Server(f"http://{_ADDRESS}:{port}")


def rclone_args(directory: Path, port: int) -> list[str]:
    """Make rclone's command line; it holds no secret, for everybody on the machine can read it."""
    return [
        find_program("rclone"),
        "serve",
        "s3",
        str(directory),
        "--addr",
        f"{_ADDRESS}:{port}",
        "--max-header-bytes",
        str(_HEADER_BYTES),
        "--vfs-cache-mode",
        "off",  # a PUT goes to its place and is not answered before it is there
        "--dir-cache-time",
        "1ms",  # what others put into the directory counts at once; with 0 rclone spins after every PUT
        "--no-cleanup",  # deleting the last object leaves its bucket
        "--log-level",
        "NOTICE",
    ]


def _environment(settings: S3Settings) -> dict[str, str]:
    """Give rclone its secret, and nothing of the user's own rclone: neither settings nor remotes."""
    pair = io.StringIO()
    csv.writer(pair, quoting=csv.QUOTE_ALL, lineterminator="").writerow(
        [f"{settings.access_key_id},{settings.secret_access_key}"]
    )
    home = str(settings.state_directory)
    return {
        "PATH": os.defpath,
        "HOME": home,
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CACHE_DIR": f"{home}/s3-cache",
        "RCLONE_AUTH_KEY": pair.getvalue(),
    }


def _answers(port: int, settings: S3Settings) -> bool:
    """Say whether a signed request is accepted: then it is our server, with our identity."""
    request = AWSRequest("GET", f"http://{_ADDRESS}:{port}/", headers={"host": f"{_ADDRESS}:{port}"})
    credentials = Credentials(settings.access_key_id, settings.secret_access_key)
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=limit_s(5))
    try:
        connection.request("GET", "/", headers=dict(request.headers.items()))
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
