"""Templates over REST: builds with their logs, the files that they copy, aliases and tags."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.control.access.authorisation import PASS_ROLE, Permission
from emberbox.control.sandboxes.assembly import Templates
from emberbox.control.sandboxes.build_status import PAGE, BuildPhase
from emberbox.control.sandboxes.template_builds import BUILD_ROLE, BeginTemplate, RequestTemplate
from emberbox.edges.sandboxes.call import ANYTHING, Call, Json
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.arns import image_arn, managed_connector_arn
from emberbox.model.records import LogEvent
from emberbox.model.templates import Step, StepKind, TemplateBuild, split_name

STEPS_MAX: Final = 500
_LEVELS: Final[Mapping[str, str]] = {"FAILED": "error", "error": "error", "NOTE": "warn", "WARN": "warn"}
"""What lines of the log begin with that are no mere news."""
_NO_LOGIN: Final = (
    "fromImageRegistry: logins of registries are the server's here: the operator puts them into "
    "EMBERBOX_REGISTRY_AUTH, and `emberbox images import` makes an image of one there (docs/builds.md)"
)


class TemplateHandlers:
    """Answers requests for templates.

    Args:
        templates: answer.
    """

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._builds = templates.builds

    async def request(self, call: Call) -> Response:
        """`POST /v3/templates`: a build is to be."""
        named = call.text("name" if call.body.get("name") else "alias")
        self._allow_build(call, split_name(named)[0])
        asked = RequestTemplate(
            named, read_tags(call, at_least=0), call.number("memoryMB", 0), call.number("cpuCount", 0),
            call.number("minFreeDiskMb", 0),
        )  # fmt: skip
        build = self._builds.request(call.caller, asked)
        names = [build.name]
        shown = {"templateID": build.image_id, "buildID": build.id, "public": False, "tags": list(build.tags)}
        return JSONResponse({**shown, "names": names, "aliases": names}, 202)

    async def find_upload(self, call: Call) -> Response:
        """`GET /templates/{id}/files/{hash}`: whether files are there, and where they are uploaded."""
        self._allow_build(call, ANYTHING)
        files = str(call.request.path_params["files"])
        if len(files) != 64 or not set(files) <= set("0123456789abcdef"):
            raise ApiError(400, "the hash of files is SHA-256 in hexadecimal digits")
        is_there, url = await self._builds.find_upload(call.caller, files, with_url=True)
        return JSONResponse({"present": is_there, "url": url}, 201)

    async def begin(self, call: Call) -> Response:
        """`POST /v2/templates/{id}/builds/{id}`: how it is made."""
        build = self._find(call)
        self._allow_build(call, build.name)
        self._builds.begin(call.caller, build, read_recipe(call))
        return Response(status_code=202)

    async def get_status(self, call: Call) -> Response:
        """`GET /templates/{id}/builds/{id}/status`."""
        build = self._find(call)
        self._allow(call, "lambda:GetMicrovmImageBuild", build.name)
        status = await self._templates.statuses.tell(
            build, read_number(call, "logsOffset", 0), read_number(call, "limit", PAGE, most=PAGE)
        )
        shown: Json = {
            "templateID": build.image_id, "buildID": build.id, "status": status.phase, "logs": [],
            "logEntries": [show_line(line) for line in status.lines],
        }  # fmt: skip
        if status.phase is BuildPhase.ERROR:
            shown["reason"] = {"message": status.reason, "step": status.step or None, "logEntries": []}
        return JSONResponse(shown)

    async def find_alias(self, call: Call) -> Response:
        """`GET /templates/aliases/{alias}`: whether a name is a template's."""
        name = split_name(str(call.request.path_params["alias"]))[0]
        self._allow(call, "lambda:GetMicrovmImage", name)
        image = self._templates.finder.find_image(call.caller.account_id, name)
        if image is None:
            raise ApiError(404, f"template '{name}' not found")
        return JSONResponse({"templateID": image.id, "public": False})

    async def assign_tags(self, call: Call) -> Response:
        """`POST /templates/tags`."""
        target, tags = call.text("target"), read_tags(call)
        self._allow(call, "lambda:UpdateMicrovmImage", split_name(target)[0])
        assigned = self._templates.tags.assign(call.caller, target, tags)
        return JSONResponse({"tags": list(tags), "buildID": assigned.build_id}, 201)

    async def remove_tags(self, call: Call) -> Response:
        """`DELETE /templates/tags`."""
        name = call.text("name")
        self._allow(call, "lambda:UpdateMicrovmImage", split_name(name)[0])
        self._templates.tags.remove(call.caller, name, read_tags(call))
        return Response(status_code=204)

    async def list_tags(self, call: Call) -> Response:
        """`GET /templates/{id}/tags`."""
        name = str(call.request.path_params["template_id"])
        self._allow(call, "lambda:ListMicrovmImageVersions", split_name(name)[0])
        found = self._templates.tags.list_all(call.caller, name)
        return JSONResponse(
            [
                {"tag": one.tag, "buildID": one.build_id, "createdAt": show_moment(one.assigned_at.timestamp())}
                for one in found
            ]
        )

    # --- who may

    def _find(self, call: Call) -> TemplateBuild:
        path = call.request.path_params
        return self._builds.find(call.caller, str(path["template_id"]), str(path["build_id"]))

    def _allow(self, call: Call, action: str, name: str) -> None:
        """The ARN that counts is the image's, be it named or meant by its id."""
        image = self._templates.finder.find_image(call.caller.account_id, name)
        arn = image_arn(call.region, call.caller.account_id, name) if image is None else image.arn
        call.allow(Permission(action, arn))

    def _allow_build(self, call: Call, name: str) -> None:
        """A build needs what AWS's operations need that make an image or a version of one."""
        account_id = call.caller.account_id
        image = self._templates.finder.find_image(account_id, name)
        arn = image_arn(call.region, account_id, name) if image is None else image.arn
        action = "lambda:CreateMicrovmImage" if image is None else "lambda:UpdateMicrovmImage"
        connector = managed_connector_arn(call.region, "INTERNET_EGRESS")
        call.allow(
            Permission(action, arn),
            Permission("lambda:PassNetworkConnector", connector),
            Permission(PASS_ROLE, f"arn:aws:iam::{account_id}:role/{BUILD_ROLE}"),
        )


def read_tags(call: Call, at_least: int = 1) -> tuple[str, ...]:
    """Return the tags that a request names.

    Raises:
        ApiError: they are no texts, or too few.
    """
    tags = call.body.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags) or len(tags) < at_least:
        raise ApiError(400, "tags must be a list of texts")
    return tuple(tags)


def read_recipe(call: Call) -> BeginTemplate:
    """Return how a build is made.

    Raises:
        ApiError: it is malformed, or asks for what is not offered.
    """
    if call.body.get("fromImageRegistry"):
        raise ApiError(400, _NO_LOGIN)
    steps = call.body.get("steps") or []
    if not isinstance(steps, list) or len(steps) > STEPS_MAX:
        raise ApiError(400, f"steps must be a list of {STEPS_MAX} at most")
    texts = {
        name: call.text(name) if call.body.get(name) else ""
        for name in ("fromImage", "fromTemplate", "startCmd", "readyCmd")
    }
    return BeginTemplate(
        texts["fromImage"], texts["fromTemplate"], tuple(map(_read_step, steps)), texts["startCmd"], texts["readyCmd"]
    )


def _read_step(step: object) -> Step:
    match step:
        case {"type": str(kind), **more} if kind.upper() in set(StepKind):
            arguments, files = more.get("args") or [], more.get("filesHash") or ""
            is_text = isinstance(arguments, list) and all(isinstance(one, str) for one in arguments)
            if isinstance(arguments, list) and is_text and isinstance(files, str):
                return Step(StepKind(kind.upper()), tuple(arguments), files)
    raise ApiError(400, f"a step has a type, one of {', '.join(StepKind)}, and args, a list of texts")


def read_number(call: Call, name: str, default: int, most: int | None = None) -> int:
    """Return a number of the query.

    Raises:
        ApiError: it is none.
    """
    text = call.request.query_params.get(name, str(default))
    if not text.isdigit() or len(text) > 15:
        raise ApiError(400, f"{name} must be a whole number")
    return int(text) if most is None else min(int(text), most)


def show_line(line: LogEvent) -> Json:
    """Return a line of a build's log as a `BuildLogEntry`."""
    level = next((level for beginning, level in _LEVELS.items() if line.message.startswith(beginning)), "info")
    return {"timestamp": show_moment(line.timestamp / 1000), "message": line.message, "level": level}


def show_moment(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as E2B's API has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
