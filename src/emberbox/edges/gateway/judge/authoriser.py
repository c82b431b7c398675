"""The authoriser: for every request, Envoy asks this ASGI application whether it may pass, and where to.

    endpoint name + token ──► whose microVM? ──► which port? ──► wake it if need be ──► 200, where and how

The answers' texts and codes are those of the AWS endpoint, as recorded from the service: 403 with one of
three sentences, 400 for an unusable port, 429 for too much at once, 502 with no body when nothing answers. A refusal
never says why a token failed.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

from emberbox.control.endpoints.tokens import Grant, InvalidToken, TokenKeys, is_token_shaped
from emberbox.control.microvms.service import SHELL_PORT
from emberbox.edges.gateway.directory import Directory, Endpoint, SandboxNames
from emberbox.edges.gateway.judge.request import (
    MARKER,
    REQUEST_ID_HEADER,
    SUBPROTOCOLS_HEADER,
    WEBSOCKET_KEY_HEADER,
    BadRequest,
    Request,
    read_request,
)
from emberbox.edges.gateway.judge.visitor import (
    ENTER_PATH,
    is_of_endpoint,
    make_cookie,
    read_cookie,
    read_link,
    without_cookie,
)
from emberbox.edges.gateway.proxy.admissions import LIFE_S, Admissions
from emberbox.edges.gateway.proxy.limits import RequestRates
from emberbox.edges.gateway.proxy.tls_ports import TlsPorts
from emberbox.edges.gateway.proxy.traffic import Traffic
from emberbox.model.endpoints import EndpointLimits, Unreachable, Upstream
from emberbox.model.sandbox_names import OWN_HEADERS

log = logging.getLogger(__name__)

_T = TypeVar("_T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What the answer to Envoy is made of; proxy/envoy/filters.py says what becomes of each.
TARGET_HEADER: Final = "x-emberbox-target"
UPSTREAM_HEADER: Final = "x-emberbox-upstream"
INCARNATION_HEADER: Final = "x-emberbox-incarnation"
CLUSTER_HEADER: Final = "x-emberbox-cluster"
SUBPROTOCOL_HEADER: Final = "x-emberbox-subprotocol"
ADMISSION_HEADER: Final = "x-emberbox-admission"
REMOVE_HEADER: Final = "x-envoy-auth-headers-to-remove"
# What the data plane behind a shell token is told; a client's own header of this name has been removed before.
MICROVM_HEADER: Final = "x-emberbox-microvm"

DATA_PLANE: Final = {("POST", "/exec"), ("GET", "/files"), ("PUT", "/files"), ("GET", "/openapi.json")}
"""Methods and paths of plain requests that a shell token is good for; it is for WebSockets whatever their path."""

_PATIENCE_S: Final = 0.25  # connections that a client has just closed are reported as closed within this time
_SERVICE_LABEL: Final = "lambda-microvm"
_ENTERED: Final = ((b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"))
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class Cluster(StrEnum):
    """How Envoy speaks to what is behind it; each has a cluster of this name."""

    GUEST_HTTP1 = "guest_http1"
    GUEST_HTTP2 = "guest_http2"  # clear text, with prior knowledge
    GUEST_TLS = "guest_tls"  # HTTP/2 where the guest's ALPN takes it, else HTTP/1.1
    GUEST_TLS_HTTP1 = "guest_tls_http1"
    DATA_PLANE = "data_plane"  # our own: the shell, commands and files
    E2B = "e2b"  # E2B's API


class _Refusal(Exception):  # noqa: N818  # not an error of ours: an answer for the client
    """Leave the judging of a request with this answer."""

    def __init__(self, status: int, text: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text
        self.headers = headers


class Authoriser:
    """The ASGI application; one instance serves all requests.

    Args:
        directory: knows the microVMs.
        keys: open the tokens.
        traffic: told of every request that passes.
        tls_ports: knows which ports of guests speak TLS.
        admissions: let requests pass that are like one which has passed.
        region: the region in endpoint names.
        domain: what they end with, after `<uuid>.lambda-microvm.<region>.`.
        hold_s: how long a request is held while its microVM is woken.
        sandboxes: finds those that E2B's API names; None where that is not served.
    """

    def __init__(
        self, directory: Directory, keys: TokenKeys, traffic: Traffic, tls_ports: TlsPorts, admissions: Admissions,
        *, region: str, domain: str, hold_s: float, sandboxes: SandboxNames | None = None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._keys = keys
        self._traffic = traffic
        self._tls_ports = tls_ports
        self._admissions = admissions
        self._rates = RequestRates(time.monotonic)
        self._suffix = f".{region}.{domain}".lower()
        self._hold_s = hold_s
        self._sandboxes = sandboxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's shape
        """Answer Envoy: 200 and where to, or the refusal that the client gets."""
        assert scope["type"] == "http"
        try:
            told = await self._judge(scope)
        except _Refusal as refusal:
            headers = [*refusal.headers, *([_TEXT] if refusal.text else [])]
            await _answer(send, refusal.status, headers, refusal.text.encode())
        except Exception:
            log.exception("a request could not be judged")
            await _answer(send, 500, [], b"")
        else:
            await _answer(send, 200, [(name.encode(), value.encode("latin-1")) for name, value in told], b"")

    async def _judge(self, scope: Scope) -> list[tuple[str, str]]:
        request = read_request(scope["headers"])
        if self._sandboxes is not None and len(request.hosts) == 1:
            label, _, rest = _host_name(request.hosts[0]).partition(".")
            if rest == self._sandboxes.domain:
                return await self._judge_sandbox(self._sandboxes, label, request)
        if scope["path"] == ENTER_PATH:
            raise self._enter(scope, request)
        is_visit = self._let_visitor_in(scope["method"], request)
        grant, endpoint = self._authenticate(request)
        if grant.kind == "shell":
            if not request.is_websocket and (scope["method"], scope["path"]) not in DATA_PLANE:
                raise _Refusal(502)
            return await self._admit_to_data_plane(endpoint, request)
        try:
            port = request.port()
        except BadRequest as error:
            raise _Refusal(400, str(error)) from None
        if not grant.ports.allows(port):
            raise _Refusal(403, "Access to port denied")
        if endpoint is None:
            raise _Refusal(502)
        limits = endpoint.limits()
        await self._limit(request, grant.microvm_id, limits)
        upstream = await self._hold(endpoint.connect(port))
        # Before anything else is waited for: it may be revoked meanwhile.
        admission = _hide_cookie(request) if is_visit else self._admit(grant, limits)
        return [
            *await self._begin(grant.microvm_id, port, upstream, request),
            *admission,
            *_websocket_headers(request),
        ]

    async def _begin(self, microvm_id: str, port: int, upstream: Upstream, request: Request) -> list[tuple[str, str]]:
        """Take note of a request to a guest's port, and say where and how it goes there."""
        self._traffic.begin(microvm_id, request.id)
        is_tls = await self._tls_ports.speaks_tls(
            microvm_id, port, (upstream.address, upstream.port), upstream.spoke_tls
        )
        return [
            (TARGET_HEADER, f"{microvm_id}:{port}"),
            (UPSTREAM_HEADER, upstream.authority()),
            (INCARNATION_HEADER, upstream.incarnation),
            (CLUSTER_HEADER, _choose_cluster(request, is_tls)),
            (REQUEST_ID_HEADER, request.id),
        ]

    async def _judge_sandbox(self, sandboxes: SandboxNames, label: str, request: Request) -> list[tuple[str, str]]:
        """Let a request at a name of E2B's form through to the sandbox's port; E2B's API answers all others.

        No request counts as like another here: who is let in is E2B's API's to say each time.
        """
        address = sandboxes.find(label, request.traffic_token)
        endpoint = None if address is None else self._directory.find(address.sandbox_id)
        to_api = [(INCARNATION_HEADER, Cluster.E2B), (CLUSTER_HEADER, Cluster.E2B), (REQUEST_ID_HEADER, request.id)]
        if address is None or endpoint is None:
            return to_api
        await self._limit(request, address.sandbox_id, endpoint.limits())
        try:
            upstream = await self._hold(sandboxes.connect(address))
        except _Refusal:
            return to_api
        verdict = await self._begin(address.sandbox_id, address.port, upstream, request)
        return [*verdict, (REMOVE_HEADER, ", ".join(OWN_HEADERS)), *_missing_key(request)]

    def _admit(self, grant: Grant, limits: EndpointLimits) -> list[tuple[str, str]]:
        """Let Envoy answer for requests like this one, where their number is not limited."""
        if limits.requests_per_s:
            return []
        admission = self._admissions.admit(grant.microvm_id)
        if admission is None:
            return []
        expires = min(int(grant.expires_at.timestamp()), int(time.time()) + LIFE_S)
        return [(ADMISSION_HEADER, f"{admission}:{expires}")]

    async def _limit(self, request: Request, microvm_id: str, limits: EndpointLimits) -> None:
        """Refuse what is too much for one microVM, before it is woken."""
        if not self._rates.take(microvm_id, limits.requests_per_s):
            raise _Refusal(429, f"Too many requests: this MicroVM takes {limits.requests_per_s} in a second")
        if not await self._traffic.take_connection(microvm_id, request.connection, limits.connections, _PATIENCE_S):
            raise _Refusal(429, f"Too many connections: this MicroVM takes {limits.connections} at once")

    async def _admit_to_data_plane(self, endpoint: Endpoint | None, request: Request) -> list[tuple[str, str]]:
        """Wake the microVM, so that a refusal is the endpoint's own. The port plays no part, as on AWS."""
        if endpoint is None:
            raise _Refusal(502)
        microvm_id, incarnation = endpoint.microvm_id, await self._hold(endpoint.wake())
        self._traffic.begin(microvm_id, request.id)
        return [
            (TARGET_HEADER, f"{microvm_id}:{SHELL_PORT}"),
            (MICROVM_HEADER, microvm_id),
            (INCARNATION_HEADER, incarnation),
            (CLUSTER_HEADER, Cluster.DATA_PLANE),
            (REQUEST_ID_HEADER, request.id),
            *_websocket_headers(request),
        ]

    async def _hold(self, waking: Awaitable[_T]) -> _T:
        """Wait for a microVM to run, within bounds."""
        try:
            async with asyncio.timeout(self._hold_s):
                return await waking
        except (Unreachable, TimeoutError) as error:
            log.debug("nothing is served: %s", error or "it took too long")
            raise _Refusal(502) from None

    def _authenticate(self, request: Request) -> tuple[Grant, Endpoint | None]:
        """Return what the token allows, and its microVM's endpoint; None when that has ended."""
        if len(request.tokens) != 1 or not is_token_shaped(request.tokens[0]):
            raise _Refusal(403, "Request missing authentication")
        try:
            grant = self._keys.open(request.tokens[0], datetime.now(UTC))
        except InvalidToken as error:
            log.debug("a token was refused: %s", error)
            raise _Refusal(403, "Token authentication failed") from None
        return grant, self._find(request.hosts, grant.microvm_id)

    def _enter(self, scope: Scope, request: Request) -> _Refusal:
        """Return the answer that lets a browser in: the token of a link in a cookie, and where to go on."""
        link = read_link(scope["query_string"].decode("latin-1"))
        request.tokens = [] if link is None else [link[1]]
        grant, _ = self._authenticate(request)
        if link is None or grant.kind != "application":
            raise _Refusal(403, "Token authentication failed")
        seconds = max(0, int(grant.expires_at.timestamp() - time.time()))
        cookie = make_cookie(*link, seconds).encode()
        return _Refusal(303, "", ((b"location", b"/"), (b"set-cookie", cookie), *_ENTERED))

    @staticmethod
    def _let_visitor_in(method: str, request: Request) -> bool:
        """Take the token of a browser's cookie where a request has no other; say whether it counts."""
        visit = None if request.tokens else read_cookie(request.visitor)
        if visit is None or len(request.hosts) != 1 or not is_of_endpoint(method, request.hosts[0], request.visitor):
            return False
        port, token = visit
        request.tokens, request.ports = [token], request.ports or [port]
        return True

    def _find(self, hosts: list[str], microvm_id: str) -> Endpoint | None:
        """Return a microVM's endpoint when the Host may go with a token of it: an endpoint's name must be its own."""
        if len(hosts) == 1:
            label, _, rest = _host_name(hosts[0]).partition(".")
            if _SERVICE_LABEL not in rest.split("."):
                return self._directory.find(microvm_id)  # the gateway's bare address: the token alone says which
            if rest == _SERVICE_LABEL + self._suffix:
                endpoint = self._directory.find_by_label(label)
                if endpoint is not None and endpoint.microvm_id == microvm_id:
                    return endpoint
        raise _Refusal(403, "Token authentication failed")


def _host_name(host: str) -> str:
    """Take the port and the root's dot off a Host header: `A.example.:8443` is `a.example`."""
    if host.startswith("["):
        return host
    return host.partition(":")[0].rstrip(".").lower()


def _choose_cluster(request: Request, is_tls: bool) -> Cluster:
    """WebSockets go to TLS ports over HTTP/1.1, as browsers do it: few servers know them over HTTP/2 (RFC 8441)."""
    if is_tls:
        return Cluster.GUEST_TLS_HTTP1 if request.is_websocket else Cluster.GUEST_TLS
    return Cluster.GUEST_HTTP2 if request.wants_http2 else Cluster.GUEST_HTTP1


def _websocket_headers(request: Request) -> list[tuple[str, str]]:
    """Hide the endpoint's own subprotocols from the guest, and name the one to answer when the guest chooses none."""
    headers = _missing_key(request)
    if request.has_own_subprotocols:
        if request.subprotocols:
            headers.append((SUBPROTOCOLS_HEADER, ", ".join(request.subprotocols)))
        else:
            headers.append((REMOVE_HEADER, SUBPROTOCOLS_HEADER))
    if request.offers_marker:
        headers.append((SUBPROTOCOL_HEADER, MARKER))
    return headers


def _hide_cookie(request: Request) -> list[tuple[str, str]]:
    """Take the cookie that let a browser in off what the guest sees."""
    left = without_cookie(request.visitor["cookie"])
    return [("cookie", left)] if left else [(REMOVE_HEADER, "cookie")]


def _missing_key(request: Request) -> list[tuple[str, str]]:
    """A WebSocket over HTTP/2 has no key (RFC 8441, section 5), and servers for HTTP/1.1 insist on one."""
    if not request.is_websocket or request.has_websocket_key:
        return []
    return [(WEBSOCKET_KEY_HEADER, base64.b64encode(os.urandom(16)).decode())]


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
