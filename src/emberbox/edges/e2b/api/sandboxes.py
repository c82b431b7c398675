"""Sandboxes over REST: what is read of requests, and what is shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, unquote

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import Permission
from emberbox.control.requests.idempotency import ClientRequest
from emberbox.control.sandboxes.assembly import Sandboxes
from emberbox.control.sandboxes.commands import ConnectSandbox, CreateSandbox, ForkSandbox, ListSandboxes
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.e2b.api.pages import read_page, show_page
from emberbox.edges.sandboxes.call import ANYTHING, Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.edges.sandboxes.figures import measure
from emberbox.edges.sandboxes.visit import Visit
from emberbox.model.sandboxes import DEFAULT_TIMEOUT_S, Sandbox, SandboxState, SandboxTerms
from emberbox.model.sizes import Size

ENVD_VERSION: Final = "0.6.4"
"""The version of E2B's daemon that is played: SDKs ask no more of it than that has."""

CLIENT_ID: Final = "emberbox"
FORKS_MAX: Final = 100
_MIB: Final = 1 << 20

_NOT_OFFERED: Final[Mapping[str, str]] = {
    "mcp": "MCP servers in sandboxes are not offered; run one with commands.run",
    "iam": "workload identities are not offered",
    "volumeMounts": "volumes are not offered",
}
_NOT_OFFERED_OF_NETWORKS: Final = (
    "what a sandbox may reach is said by its template: build the image with a network connector (docs/network.md)"
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handlers of sandboxes work with.

    Args:
        sandboxes: answer.
        tokens: what opens sandboxes.
        domain: what the host names of sandboxes end with.
        tls_domain: what they end with at the gateway.
    """

    sandboxes: Sandboxes
    tokens: SandboxTokens
    domain: str
    tls_domain: str = ""

    def domain_for(self, call: Call) -> str | None:
        """Return what host names end with for a client: the gateway's domain, with its port, for who asks there."""
        host = call.request.headers.get("host", "").lower()
        domain = host.removeprefix("api.")
        is_gateways = domain != host and self.tls_domain and domain.partition(":")[0] == self.tls_domain
        return (domain if is_gateways else self.domain) or None


class SandboxHandlers:
    """Answers requests for sandboxes.

    Args:
        parts: see there.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sandboxes = parts.sandboxes.service

    async def create(self, call: Call) -> Response:
        """`POST /v2/sandboxes`, `POST /sandboxes`."""
        terms = read_terms(call)
        template = self._parts.sandboxes.templates.find(call.caller, terms.template)
        call.allow_launch(template.image.arn, template.version)
        sandbox = await self._sandboxes.create(call.caller, CreateSandbox(terms, _read_client_request(call)))
        return JSONResponse(self._show_new(call, sandbox), 201)

    async def list_all(self, call: Call) -> Response:
        """`GET /v2/sandboxes`, and `GET /sandboxes` for those that run."""
        call.allow(Permission("lambda:ListMicrovms", ANYTHING))
        page = self._sandboxes.list_sandboxes(call.caller, read_list(call))
        return show_page(page, self._show_listed)

    async def get(self, call: Call) -> Response:
        """`GET /sandboxes/{id}`."""
        call.allow_on_sandbox("lambda:GetMicrovm")
        sandbox = self._sandboxes.get(call.caller, call.sandbox_id)
        terms = sandbox.terms
        lifecycle = {"autoResume": terms.resumes_itself, "onTimeout": "pause" if terms.pauses_itself else "kill"}
        return JSONResponse(
            {**self._show_listed(sandbox), "domain": self._parts.domain_for(call), "lifecycle": lifecycle}
        )

    async def kill(self, call: Call) -> Response:
        """`DELETE /sandboxes/{id}`."""
        call.allow_on_sandbox("lambda:TerminateMicrovm")
        self._sandboxes.kill(call.caller, call.sandbox_id)
        return Response(status_code=204)

    async def set_timeout(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/timeout`."""
        call.allow_on_sandbox("lambda:ResumeMicrovm")
        self._sandboxes.set_timeout(call.caller, call.sandbox_id, call.number("timeout", DEFAULT_TIMEOUT_S))
        return Response(status_code=204)

    async def refresh(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/refreshes`: no sooner than that."""
        call.allow_on_sandbox("lambda:ResumeMicrovm")
        sandbox = self._sandboxes.get(call.caller, call.sandbox_id)
        if sandbox.is_paused:
            raise ApiError(404, f"Sandbox {sandbox.id} is paused")
        await self._sandboxes.connect(call.caller, ConnectSandbox(sandbox.id, call.number("duration", 60)))
        return Response(status_code=204)

    async def connect(self, call: Call) -> Response:
        """`POST /v2/sandboxes/{id}/connect`, and without `/v2`."""
        call.allow_on_sandbox("lambda:ResumeMicrovm", "lambda:CreateMicrovmShellAuthToken")
        refuse_without_memory(call)
        asked = ConnectSandbox(call.sandbox_id, call.number("timeout", DEFAULT_TIMEOUT_S))
        sandbox, was_paused = await self._sandboxes.connect(call.caller, asked)
        return JSONResponse(self._show_new(call, sandbox), 201 if was_paused else 200)

    async def resume(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/resume`, of earlier SDKs."""
        call.allow_on_sandbox("lambda:ResumeMicrovm", "lambda:CreateMicrovmShellAuthToken")
        if not self._sandboxes.get(call.caller, call.sandbox_id).is_paused:
            raise ApiError(409, f"Sandbox {call.sandbox_id} runs already")
        asked = ConnectSandbox(call.sandbox_id, call.number("timeout", DEFAULT_TIMEOUT_S))
        sandbox, _ = await self._sandboxes.connect(call.caller, asked)
        return JSONResponse(self._show_new(call, sandbox), 201)

    async def pause(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/pause`."""
        call.allow_on_sandbox("lambda:SuspendMicrovm")
        refuse_without_memory(call)
        await self._sandboxes.pause(call.caller, call.sandbox_id)
        return Response(status_code=204)

    async def fork(self, call: Call) -> Response:
        """`POST /sandboxes/{id}/fork`."""
        call.allow_on_sandbox("emberbox:ForkMicrovm", "lambda:CreateMicrovmShellAuthToken")
        count = call.number("count", 1)
        if not 1 <= count <= FORKS_MAX:
            raise ApiError(400, f"count must be 1 to {FORKS_MAX}")
        asked = ForkSandbox(call.sandbox_id, count, call.number("timeout", DEFAULT_TIMEOUT_S))
        forks = await self._sandboxes.fork(call.caller, asked)
        return JSONResponse([{"sandbox": self._show_new(call, sandbox)} for sandbox in forks], 201)

    async def get_metrics(self, call: Call) -> Response:
        """`GET /sandboxes/{id}/metrics`: what it uses now, as none of that is kept; nothing of a paused one."""
        call.allow_on_sandbox("lambda:GetMicrovm")
        sandbox = self._sandboxes.get(call.caller, call.sandbox_id)
        if sandbox.is_paused:
            return JSONResponse([])
        figures = await measure(Visit(sandbox, self._parts.sandboxes.door))
        shown = {
            "timestamp": _show_moment(datetime.fromtimestamp(figures.measured_at, UTC)),
            "timestampUnix": figures.measured_at,
            "cpuCount": figures.cpu_count,
            "cpuUsedPct": figures.cpu_used_percent,
            "memUsed": figures.memory_used,
            "memTotal": figures.memory_total,
            "memCache": figures.memory_cache,
            "diskUsed": figures.disk_used,
            "diskTotal": figures.disk_total,
        }
        return JSONResponse([shown])

    # --- what is shown

    def _show_new(self, call: Call, sandbox: Sandbox) -> Json:
        tokens = self._parts.tokens
        return {
            "templateID": sandbox.image_id,
            "alias": sandbox.terms.template,
            "sandboxID": sandbox.id,
            "clientID": CLIENT_ID,
            "envdVersion": ENVD_VERSION,
            "envdAccessToken": tokens.access(sandbox.id),
            "trafficAccessToken": tokens.traffic(sandbox.id) if sandbox.terms.is_private else None,
            "domain": self._parts.domain_for(call),
        }

    def _show_listed(self, sandbox: Sandbox) -> Json:
        size = self._size(sandbox)
        return {
            "templateID": sandbox.image_id,
            "alias": sandbox.terms.template,
            "sandboxID": sandbox.id,
            "clientID": CLIENT_ID,
            "startedAt": _show_moment(sandbox.started_at),
            "endAt": _show_moment(sandbox.ends_at),
            "cpuCount": 0 if size is None else size.vcpu_count,
            "memoryMB": 0 if size is None else size.baseline_mib,
            "diskSizeMB": 0 if size is None else size.disk_bytes // _MIB,
            "metadata": dict(sandbox.terms.metadata or {}),
            "state": sandbox.state,
            "envdVersion": ENVD_VERSION,
        }

    def _size(self, sandbox: Sandbox) -> Size | None:
        version = self._parts.sandboxes.images.find_version(sandbox.image_id, sandbox.image_version)
        return None if version is None else version.request.size


def read_terms(call: Call) -> SandboxTerms:
    """Return what a new sandbox is asked to be.

    Raises:
        ApiError: something is malformed, or is not offered here: nothing that was asked for is left out in silence.
    """
    for name, text in _NOT_OFFERED.items():
        if call.body.get(name):
            raise ApiError(400, f"{name}: {text}")
    if call.body.get("allow_internet_access") is False or call.body.get("allowInternetAccess") is False:
        raise ApiError(400, f"allow_internet_access: {_NOT_OFFERED_OF_NETWORKS}")
    if not call.truth("autoPauseMemory", default=True):
        raise ApiError(400, "autoPauseMemory: a sandbox is paused with its memory here, always")
    resumes = call.body.get("autoResume") or {}
    return SandboxTerms(
        template=call.text("templateID"),
        timeout_s=call.number("timeout", DEFAULT_TIMEOUT_S),
        metadata=call.texts("metadata"),
        environment=call.texts("envVars"),
        pauses_itself=call.truth("autoPause"),
        resumes_itself=isinstance(resumes, dict) and resumes.get("enabled") is True,
        is_private=_read_network(call),
    )


def _read_network(call: Call) -> bool:
    """Return whether a sandbox's ports need a token."""
    network = call.body.get("network") or {}
    if not isinstance(network, dict):
        raise ApiError(400, "network must be an object")
    others = {name for name, value in network.items() if value not in (None, [], {})} - {"allowPublicTraffic"}
    if others:
        raise ApiError(400, f"network.{min(others)}: {_NOT_OFFERED_OF_NETWORKS}")
    return network.get("allowPublicTraffic") is False


def _read_client_request(call: Call) -> ClientRequest | None:
    token = call.request.headers.get("idempotency-key")
    if not token:
        return None
    digest = hashlib.sha256(json.dumps(call.body, sort_keys=True).encode()).hexdigest()
    return ClientRequest("CreateSandbox", hashlib.sha256(token.encode()).hexdigest(), digest)


def read_list(call: Call) -> ListSandboxes:
    """Return which sandboxes are asked for.

    Raises:
        ApiError: a filter is malformed.
    """
    query = call.request.query_params
    try:
        states = frozenset(SandboxState(name) for name in query.get("state", "").split(",") if name)
        started_after = datetime.fromisoformat(query["startedAfter"]) if "startedAfter" in query else None
    except ValueError as error:
        raise ApiError(400, f"a filter is malformed: {error}") from None
    only_running = frozenset({SandboxState.RUNNING})
    of_old = only_running if call.request.url.path == "/sandboxes" else frozenset(SandboxState)
    return ListSandboxes(
        page=read_page(call),
        metadata={unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))},
        states=states or of_old,
        template=query.get("template") or None,
        started_after=started_after,
        oldest_first=query.get("order") == "asc",
    )


def refuse_without_memory(call: Call) -> None:
    """Refuse to leave the memory out.

    Raises:
        ApiError: that is asked for.
    """
    if not call.truth("memory", default=True):
        raise ApiError(400, "memory: a sandbox is paused and resumed with its memory here, always")


def _show_moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
