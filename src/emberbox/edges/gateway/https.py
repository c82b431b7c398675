"""The gateway's second port, HTTPS's own where it is free: endpoints' names need no port then, as on AWS.

Its listener is in a file that Envoy reads, so that AWS's own host names can be answered there and not any more while
everything goes on, and so that a port which somebody else has only leaves it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.edges.gateway.proxy.envoy.bootstrap import write_listeners
from emberbox.edges.gateway.proxy.envoy.settings import AwsFront, EnvoySettings, HttpsPort
from emberbox.edges.gateway.tls.certificates import ensure_certificates
from emberbox.host.ports import may_take
from emberbox.model.errors import HostError
from emberbox.spec.aws_names import AwsNames, aws_names
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

_PRESENTED_S: Final = limit_s(5.0)
_PRESENTED_POLL_S: Final = 0.05
_FLAG_POLL_S: Final = 0.5
_CERTIFICATE: Final = "aws"


@dataclass(frozen=True, slots=True)
class HttpsSettings:
    """What the second port depends on.

    Args:
        port: which one; 0 for none.
        s3_address: where the embedded S3 listens; None where S3 is another's.
        flag: AWS's names are answered while this file is there.
    """

    port: int = 0
    s3_address: tuple[str, int] | None = None
    flag: Path | None = None


def plan_https(settings: HttpsSettings, address: str, directory: Path, *, is_running: bool) -> HttpsPort | None:
    """Say whether the second port is tried.

    Args:
        settings: see there.
        address: where the gateway listens.
        directory: of the gateway.
        is_running: an Envoy of an earlier server goes on in that directory; it may hold the port already.

    Returns:
        what Envoy must know; None where there is no such port, it is taken, or we may not have it.
    """
    if not settings.port:
        return None
    planned = HttpsPort(settings.port, directory / "listeners.json", directory / "api.sock", settings.s3_address)
    if (is_running and _holds(planned)) or may_take(address, settings.port):
        return planned
    log.info(
        "port %d of %s is taken, or not for us to take: endpoints have their port in their names",
        settings.port, address,
    )  # fmt: skip
    return None


def _holds(planned: HttpsPort) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        listeners = json.loads(planned.listeners_path.read_text())["resources"]
        return any(one["address"]["socket_address"]["port_value"] == planned.port for one in listeners)
    return False


class HttpsListener:
    """The listener of the second port, as far as the file tells Envoy.

    Args:
        envoy: with `https`.
        region: the one that is played.
        directory: where certificates are, those of the local authority.
        flag: AWS's names are answered while this file is there; None: never.
    """

    def __init__(self, envoy: EnvoySettings, region: str, directory: Path, flag: Path | None) -> None:
        assert envoy.https is not None
        self._envoy = envoy
        self._https = envoy.https
        self._region = region
        self._directory = directory
        self._flag = flag
        self._answers_aws = False

    def write(self) -> None:
        """Tell Envoy of the listener as it is to be now.

        Raises:
            HostError: there is no certificate for AWS's names.
        """
        wanted = self._flag is not None and self._flag.exists()
        front = self._front(aws_names(self._region)) if wanted else None
        write_listeners(self._envoy, self._https.listeners_path, self._https.port, front)
        self._answers_aws = wanted
        if not wanted:
            for suffix in ("pem", "key"):  # a certificate for AWS's names lasts no longer than it is wanted
                (self._directory / f"{_CERTIFICATE}.{suffix}").unlink(missing_ok=True)

    def _front(self, names: AwsNames) -> AwsFront:
        s3 = (*names.s3, *names.buckets) if self._https.s3_address else ()
        made = ensure_certificates(self._directory, (*names.api, *s3), name=_CERTIFICATE)
        return AwsFront(made.certificate_path, made.key_path, names.api, s3)

    async def is_served(self, presents: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until the port presents our certificate; where it does not, take the listener back.

        Args:
            presents: asks once.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PRESENTED_S):
                while not await presents():  # noqa: ASYNC110  # Envoy gives no event
                    await asyncio.sleep(_PRESENTED_POLL_S)
                return True
        log.warning("port %d could not be had: endpoints have their port in their names", self._https.port)
        write_listeners(self._envoy, self._https.listeners_path, None)
        return False

    async def follow(self) -> None:
        """Begin and cease to answer AWS's names as the flag comes and goes; until cancelled."""
        while True:
            await asyncio.sleep(_FLAG_POLL_S)
            if self._flag is None or self._flag.exists() == self._answers_aws:
                continue
            try:
                await asyncio.to_thread(self.write)
            except (HostError, OSError) as error:
                log.warning("AWS's names are not answered: %s", error)
                await asyncio.sleep(_PRESENTED_S)
            else:
                log.info("AWS's names are answered %s", "from now on" if self._answers_aws else "no more")
