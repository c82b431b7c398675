"""Sandboxes over REST, as Daytona's clients ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import Permission
from emberbox.control.sandboxes.assembly import Sandboxes
from emberbox.control.sandboxes.commands import CreateSandbox, ForkSandbox
from emberbox.control.sandboxes.tokens import SandboxTokens
from emberbox.edges.daytona.terms import (
    MINUTE_S,
    check_minutes,
    check_resources,
    read_list,
    read_new,
    show_size,
)
from emberbox.edges.sandboxes.call import ANYTHING, Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.errors import NotFoundError
from emberbox.model.sandbox_names import LAST_PORT
from emberbox.model.sandboxes import LIFE_MAX_S, Sandbox, SandboxState
from emberbox.model.sizes import Size

TOOLBOX_PATH: Final = "/toolbox"
_STATES: Final[Mapping[SandboxState, str]] = {SandboxState.RUNNING: "started", SandboxState.PAUSED: "stopped"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handlers of sandboxes work with.

    Args:
        sandboxes: answer.
        tokens: what opens ports.
        domain: what the host names of ports end with.
        default_snapshot: the image where none is named.
    """

    sandboxes: Sandboxes
    tokens: SandboxTokens
    domain: str
    default_snapshot: str


class SandboxHandlers:
    """Answers requests for sandboxes.

    Args:
        parts: see there.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sandboxes = parts.sandboxes.service

    async def create(self, call: Call) -> Response:
        """`POST /sandbox`."""
        asked = read_new(call, self._parts.default_snapshot)
        try:
            template = self._parts.sandboxes.templates.find(call.caller, asked.terms.template)
        except NotFoundError as error:
            raise ApiError(404, self._tell_missing(asked.terms.template)) from error
        call.allow_launch(template.image.arn, template.version)
        check_resources(call, self._find_size(template.image.id, template.version or ""))
        sandbox = await self._sandboxes.create(call.caller, CreateSandbox(asked.terms, life_s=asked.life_s))
        return JSONResponse(self._show(call, sandbox))

    def _tell_missing(self, name: str) -> str:
        text = f"snapshot '{name}' not found: the account has no image of this name or id"
        if name != self._parts.default_snapshot:
            return f"{text}; `emberbox images` lists those that there are"
        return (
            f"{text}; build it with `emberbox e2b-templates build {name}`, name another "
            "(CreateSandboxFromSnapshotParams(snapshot='my-image')), or let EMBERBOX_DAYTONA_SNAPSHOT name the default"
        )

    async def list_all(self, call: Call) -> Response:
        """`GET /sandbox`."""
        call.allow(Permission("lambda:ListMicrovms", ANYTHING))
        page = self._sandboxes.list_sandboxes(call.caller, read_list(call))
        items = [self._show(call, sandbox) for sandbox in page.items]
        return JSONResponse({"items": items, "nextCursor": page.next_token})

    async def get(self, call: Call) -> Response:
        """`GET /sandbox/{id or name}`."""
        return JSONResponse(self._show(call, self._find(call, "lambda:GetMicrovm")))

    async def delete(self, call: Call) -> Response:
        """`DELETE /sandbox/{id or name}`."""
        return self._kill(call, self._find(call, "lambda:TerminateMicrovm"))

    async def start(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/start`."""
        sandbox = self._find(call, "lambda:ResumeMicrovm")
        return JSONResponse(self._show(call, await self._sandboxes.resume(call.caller, sandbox.id)))

    async def stop(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/stop`, `/pause`: with its memory; an ephemeral one ends."""
        sandbox = self._find(call, "lambda:SuspendMicrovm")
        if sandbox.terms.moves_with_use and not sandbox.terms.pauses_itself:
            call.allow_on(sandbox.id, "lambda:TerminateMicrovm")
            return self._kill(call, sandbox)
        if not sandbox.is_paused:
            await self._sandboxes.pause(call.caller, sandbox.id)
        return JSONResponse(self._show(call, self._sandboxes.get(call.caller, sandbox.id)))

    def _kill(self, call: Call, sandbox: Sandbox) -> Response:
        self._sandboxes.kill(call.caller, sandbox.id)
        return JSONResponse({**self._show(call, sandbox), "state": "destroying", "desiredState": "destroyed"})

    async def fork(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/fork`."""
        if call.body.get("name"):
            raise ApiError(400, "name: a fork has no name of its own; leave it out")
        sandbox = self._find(call, "emberbox:ForkMicrovm", "lambda:CreateMicrovmShellAuthToken")
        (fork,) = await self._sandboxes.fork(call.caller, ForkSandbox(sandbox.id, 1, sandbox.terms.timeout_s))
        return JSONResponse(self._show(call, fork))

    # --- what it is to be

    async def set_labels(self, call: Call) -> Response:
        """`PUT /sandbox/{id or name}/labels`."""
        sandbox = self._find(call, "lambda:ResumeMicrovm")
        labels = dict(call.texts("labels"))
        self._sandboxes.set_terms(call.caller, sandbox.id, replace(sandbox.terms, metadata=labels))
        return JSONResponse({"labels": labels})

    async def set_auto_stop(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/autostop/{minutes}`, `/autopause/{minutes}`."""
        minutes = check_minutes("interval", _number(call, "interval"))
        sandbox = self._find(call, "lambda:ResumeMicrovm")
        terms = replace(
            sandbox.terms,
            timeout_s=minutes * MINUTE_S or LIFE_MAX_S,
            pauses_itself=sandbox.terms.pauses_itself or not sandbox.terms.moves_with_use,  # else it is ephemeral
            moves_with_use=True,
        )
        return JSONResponse(self._show(call, self._sandboxes.set_terms(call.caller, sandbox.id, terms)))

    async def set_auto_delete(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/autodelete/{minutes}`: 0 is at once, -1 never."""
        minutes = check_minutes("interval", _number(call, "interval"), least=-1)
        sandbox = self._find(call, "lambda:ResumeMicrovm", "lambda:TerminateMicrovm")
        terms = replace(sandbox.terms, pauses_itself=minutes != 0, deletes_after_s=max(minutes, 0) * MINUTE_S)
        return JSONResponse(self._show(call, self._sandboxes.set_terms(call.caller, sandbox.id, terms)))

    async def set_public(self, call: Call) -> Response:
        """`POST /sandbox/{id or name}/public/{true or false}`."""
        said = str(call.request.path_params["is_public"]).lower()
        if said not in ("true", "false"):
            raise ApiError(400, "isPublic must be true or false")
        sandbox = self._find(call, "lambda:CreateMicrovmAuthToken")
        terms = replace(sandbox.terms, is_private=said == "false")
        return JSONResponse(self._show(call, self._sandboxes.set_terms(call.caller, sandbox.id, terms)))

    async def note_use(self, call: Call) -> Response:
        """`POST /sandbox/{id}/last-activity`."""
        sandbox = self._find(call, "lambda:ResumeMicrovm")
        self._sandboxes.note_use(sandbox)
        return Response(status_code=201)

    # --- where it is reached

    async def get_preview(self, call: Call) -> Response:
        """`GET /sandbox/{id or name}/ports/{port}/preview-url`."""
        port = _number(call, "port")
        if not 1 <= port <= LAST_PORT:
            raise ApiError(400, f"port must be 1 to {LAST_PORT}")
        sandbox = self._find(call, "lambda:CreateMicrovmAuthToken")
        url = f"http://{port}-{sandbox.id}.{self._parts.domain}"
        return JSONResponse({"sandboxId": sandbox.id, "url": url, "token": self._parts.tokens.traffic(sandbox.id)})

    async def get_toolbox(self, call: Call) -> Response:
        """`GET /sandbox/{id}/toolbox-proxy-url`."""
        self._find(call, "lambda:GetMicrovm")
        return JSONResponse({"url": _toolbox_url(call)})

    # --- which, and what is shown

    def _find(self, call: Call, *actions: str) -> Sandbox:
        """Return the sandbox that the path names, when the caller may do this with it.

        Raises:
            AccessDeniedError: no policy allows it.
            NotFoundError: there is none.
        """
        try:
            sandbox = self._sandboxes.get_called(call.caller, call.sandbox_id)
        except NotFoundError:
            call.allow_on(call.sandbox_id, *actions)  # who may not ask is not told
            raise
        call.allow_on(sandbox.id, *actions)
        return sandbox

    def _find_size(self, image_id: str, version: str) -> Size | None:
        found = self._parts.sandboxes.images.find_version(image_id, version)
        return None if found is None else found.request.size

    def _show(self, call: Call, sandbox: Sandbox) -> Json:
        terms, state = sandbox.terms, _STATES[sandbox.state]
        minutes = 0 if terms.timeout_s >= LIFE_MAX_S else -(-terms.timeout_s // MINUTE_S)
        delete = terms.deletes_after_s // MINUTE_S or -1 if terms.pauses_itself else 0
        started = sandbox.started_at.isoformat().replace("+00:00", "Z")
        return {
            "id": sandbox.id,
            "organizationId": sandbox.account_id,
            "name": terms.name or sandbox.id,
            "snapshot": terms.template,
            "user": terms.user,
            "env": dict(terms.environment or {}),
            "labels": dict(terms.metadata or {}),
            "public": not terms.is_private,
            "networkBlockAll": False,
            "kvm": False,
            "target": call.region,
            **show_size(self._find_size(sandbox.image_id, sandbox.image_version)),
            "state": state,
            "desiredState": state,
            "autoStopInterval": minutes,
            "autoDeleteInterval": delete,
            "createdAt": started,
            "updatedAt": started,
            "toolboxProxyUrl": _toolbox_url(call),
        }


def _toolbox_url(call: Call) -> str:
    """Return where the daemons of sandboxes are asked: at the address that this client has come to."""
    request = call.request
    is_tls = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    return f"{'https' if is_tls else 'http'}://{request.headers.get('host', '')}{TOOLBOX_PATH}"


def _number(call: Call, name: str) -> int:
    text = str(call.request.path_params[name])
    if not text.removeprefix("-").isdecimal() or len(text) > 9:
        raise ApiError(400, f"{name} must be a whole number")
    return int(text)
