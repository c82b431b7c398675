"""Lists of templates over REST."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse, Response

from emberbox.background import in_thread
from emberbox.control.access.authorisation import Permission
from emberbox.control.sandboxes.assembly import Templates
from emberbox.control.sandboxes.build_status import BuildPhase
from emberbox.control.sandboxes.template_lists import ListedBuild, ListedTemplate
from emberbox.edges.e2b.api.pages import read_page, show_page
from emberbox.edges.e2b.api.sandboxes import ENVD_VERSION
from emberbox.edges.e2b.api.templates import show_moment
from emberbox.edges.sandboxes.call import ANYTHING, Call, Json
from emberbox.model.arns import image_arn

_MIB: Final = 1 << 20
_ENDED: Final = (BuildPhase.READY, BuildPhase.ERROR)


class TemplateListHandlers:
    """Answers requests for lists of templates.

    Args:
        templates: answer.
    """

    def __init__(self, templates: Templates) -> None:
        self._lists = templates.lists
        self._finder = templates.finder

    async def list_all(self, call: Call) -> Response:
        """`GET /templates`, which has no pages."""
        call.allow(Permission("lambda:ListMicrovmImages", ANYTHING))
        found = await in_thread(self._lists.list_all, call.caller)
        return JSONResponse([show_template(template) for template in found])

    async def list_page(self, call: Call) -> Response:
        """`GET /v2/templates`."""
        call.allow(Permission("lambda:ListMicrovmImages", ANYTHING))
        page = await in_thread(self._lists.list_page, call.caller, read_page(call))
        return show_page(page, show_template)

    async def get(self, call: Call) -> Response:
        """`GET /templates/{id}`: a template with its builds."""
        named = str(call.request.path_params["template_id"])
        image = self._finder.find_image(call.caller.account_id, named)
        arn = image_arn(call.region, call.caller.account_id, named) if image is None else image.arn
        call.allow(Permission("lambda:GetMicrovmImage", arn), Permission("lambda:ListMicrovmImageVersions", arn))
        template = await in_thread(self._lists.find, call.caller, named)
        return JSONResponse({**show_template(template), "builds": [_show_build(build) for build in template.builds]})


def show_template(template: ListedTemplate) -> Json:
    """Return what a list tells of a template."""
    image, current, last = template.image, template.current, template.uses.last_at
    return {
        "templateID": image.id,
        "buildID": current.id,
        "buildStatus": current.phase,
        "buildCount": len(template.builds),
        "public": False,
        "aliases": [image.name],
        "names": [image.name],
        "createdAt": show_moment(image.created_at.timestamp()),
        "updatedAt": show_moment(image.updated_at.timestamp()),
        "createdBy": None,
        "lastSpawnedAt": None if last is None else show_moment(last.timestamp()),
        "spawnCount": template.uses.total,
        **_show_size(current),
    }


def _show_build(build: ListedBuild) -> Json:
    version = build.version
    shown = {
        "buildID": build.id,
        "status": build.phase,
        "createdAt": show_moment(version.created_at.timestamp()),
        "updatedAt": show_moment(version.updated_at.timestamp()),
        **_show_size(build),
    }
    return shown | ({"finishedAt": shown["updatedAt"]} if build.phase in _ENDED else {})


def _show_size(build: ListedBuild) -> Json:
    size = build.version.request.size
    return {
        "cpuCount": size.vcpu_count,
        "memoryMB": size.baseline_mib,
        "diskSizeMB": size.disk_bytes // _MIB,
        "envdVersion": ENVD_VERSION,
    }
