"""Talks to one microVM through the gateway as any HTTPS client does: with a token."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from dataclasses import dataclass
from typing import Any

from emberbox.cli.context import Server
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s

TOKEN_HEADER = "X-aws-proxy-auth"  # noqa: S105 - the header's name
_TIMEOUT_S = limit_s(30.0)
_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body as an object.

        Raises:
            HostError: it is none, or the status is not 200.
        """
        if self.status != http.client.OK:
            raise HostError(f"the application answered {self.status}: {self.body[:200].decode(errors='replace')}")
        content = json.loads(self.body)
        if not isinstance(content, dict):
            raise HostError("the application answered with something else than an object")
        return content


class Endpoint:
    """One microVM, as the holder of a token sees it.

    Args:
        server: where the gateway is, and the CA that its certificate is checked with.
        token: from CreateMicrovmAuthToken.
    """

    def __init__(self, server: Server, token: str) -> None:
        self._address = server.gateway_address
        self._headers = {TOKEN_HEADER: token}
        self._tls = ssl.create_default_context(cafile=server.ca_bundle)

    def get(self, path: str = "/") -> Reply:
        """Ask once.

        Raises:
            HostError: the gateway cannot be reached.
        """
        connection = http.client.HTTPSConnection(*self._address, context=self._tls, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path, headers=self._headers)
            response = connection.getresponse()
            return Reply(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise HostError(f"the gateway at {self._address[0]}:{self._address[1]} failed: {error}") from error
        finally:
            connection.close()

    def wait_answer(self, timeout_s: float, path: str = "/") -> Reply:
        """Ask until the answer is not the gateway's 502, which stands for "not there yet".

        Raises:
            HostError: it still is after `timeout_s` seconds.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            reply = self.get(path)
            if reply.status != http.client.BAD_GATEWAY:
                return reply
            if time.monotonic() > deadline:
                raise HostError(f"the application did not answer within {timeout_s:g} s")
            time.sleep(_RETRY_S)
