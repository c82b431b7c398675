"""The embedded S3: a process of its own (`emberbox.s3`), under the supervisor.

Large transfers are so no business of the server's event loop, and clients' transfers go on when the server is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from emberbox.host.ports import keep_port
from emberbox.host.supervisor import Helper, find_running, supervise
from emberbox.model.iam.access import Credential
from emberbox.time_limits import SCALE, limit_s

_ADDRESS: Final = "127.0.0.1"
_SOURCES: Final = Path(__file__).parents[1] / "s3"


@dataclass(frozen=True, slots=True)
class S3Settings:
    """What the embedded S3 depends on.

    Args:
        home: the state directory; objects are in `objects`, and what an earlier release kept in `s3` is taken over.
        state_directory: for the log and the pid file; made when missing.
        database_url: where accounts and their keys are; it is read for every request.
        account_id: the operator's account.
        region: the region that is played.
        domain: names of buckets may end in it.
        probe: an identity that may read objects, to see whether it is our server that answers.
        port: the port on the loopback; 0 takes a free one.
    """

    home: Path
    state_directory: Path
    database_url: str = field(repr=False)
    account_id: str
    region: str
    domain: str
    probe: Credential
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
        HostError: nothing serves within 30 s, such as when the port is taken.
    """
    port = settings.port or keep_port(
        settings.state_directory / "port", _ADDRESS, held=find_running("s3", settings.state_directory) is not None
    )
    helper = Helper(
        name="s3",
        arguments=[sys.executable, "-P", "-m", "emberbox.s3", settings.home],
        directory=settings.state_directory,
        files=sorted(_SOURCES.glob("*.py")),  # another release is never taken over
        environment=_environment(settings, port),
        is_ready=lambda: asyncio.to_thread(_answers, port, settings),
    )
    async with supervise(helper):
        yield S3Server(f"http://{_ADDRESS}:{port}")


def _environment(settings: S3Settings, port: int) -> dict[str, str]:
    """Say everything here and not on the command line, which everybody on the machine can read."""
    return {
        "PATH": os.defpath,
        "HOME": str(settings.state_directory),
        "LC_ALL": "C.UTF-8",
        "MALLOC_ARENA_MAX": "2",  # or each of many threads keeps memory for itself
        "EMBERBOX_TIME_SCALE": str(SCALE),
        "EMBERBOX_S3_ADDRESS": _ADDRESS,
        "EMBERBOX_S3_PORT": str(port),
        "EMBERBOX_S3_DATABASE": settings.database_url,
        "EMBERBOX_S3_ACCOUNT": settings.account_id,
        "EMBERBOX_S3_REGION": settings.region,
        "EMBERBOX_S3_DOMAIN": settings.domain,
    }


def _answers(port: int, settings: S3Settings) -> bool:
    """Say whether a request that is signed with our key is understood: then it is our server."""
    path = "/emberbox-ready/probe"
    request = AWSRequest("GET", f"http://{_ADDRESS}:{port}{path}", headers={"host": f"{_ADDRESS}:{port}"})
    credentials = Credentials(settings.probe.access_key_id, settings.probe.secret_access_key)
    S3SigV4Auth(credentials, "s3", settings.region).add_auth(request)
    connection = http.client.HTTPConnection(_ADDRESS, port, timeout=limit_s(5))
    try:
        connection.request("GET", path, headers=dict(request.headers.items()))
        return connection.getresponse().status == http.client.NOT_FOUND
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
