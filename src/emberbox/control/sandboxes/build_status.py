"""How far a template's build is: its state, its log, and where and why it failed."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from emberbox.background import in_thread
from emberbox.control.sandboxes.recipes import BASE_STEP, FINAL_STEP
from emberbox.control.sandboxes.template_builds import TemplateBuilds, dockerfile_of
from emberbox.model.logs import log_stream_names
from emberbox.model.records import ImageVersion, LogEvent, LogGroup
from emberbox.model.states import VersionState
from emberbox.model.templates import TemplateBuild
from emberbox.store.images import ImageStore
from emberbox.store.logs import LogStore
from emberbox.time_limits import limit_s

PAGE: Final = 100
INTERRUPTED: Final = "the server was stopped before the build had begun; build the template again"
GONE: Final = "the version that was built is no longer there; build the template again"

_PAGE_EVENTS: Final = 5_000
_PLACES_MAX: Final = 500
_TAIL: Final = 5
_INSTRUCTION: Final = re.compile(r"^STEP (\d+)(?:/\d+)?:|Dockerfile:(\d+)")
"""How buildah names the instruction that it begins, and BuildKit the line that failed."""
_LAST: Final = ("SUCCESSFUL", "FAILED")
_LAST_LINE_WITHIN_S: Final = limit_s(5.0)
_BUILT: Final = "Packing the root file system"


class BuildPhase(StrEnum):
    """How far a build is."""

    WAITING = "waiting"
    BUILDING = "building"
    READY = "ready"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """What is told of a build.

    Args:
        build: it.
        phase: how far it is.
        lines: of its log, from where they were asked for.
        reason: why it failed.
        step: where it failed; empty where that is not known.
    """

    build: TemplateBuild
    phase: BuildPhase
    lines: Sequence[LogEvent]
    reason: str = ""
    step: str = ""


class BuildStatuses:
    """Tells how far builds are.

    Args:
        builds: knows those that have no version yet.
        images: versions and builds of images.
        logs: the lines.
    """

    def __init__(self, builds: TemplateBuilds, images: ImageStore, logs: LogStore) -> None:
        self._builds = builds
        self._images = images
        self._logs = logs
        self._places: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def tell(self, build: TemplateBuild, offset: int, limit: int = PAGE) -> BuildStatus:
        """Return the status of a build.

        Args:
            build: it.
            offset: so many lines of its log are known already.
            limit: at most so many lines are wanted.
        """
        if build.version is None:
            return self._tell_begun(build)
        version = self._images.find_version(build.image_id, build.version)
        if version is None:
            return BuildStatus(build, BuildPhase.ERROR, (), GONE)
        is_told = await in_thread(self._is_log_whole, build, version)
        lines = await in_thread(self._read, build, version, offset, limit)
        if not is_told:  # else a client that has heard the end would not ask for the last lines
            return BuildStatus(build, BuildPhase.BUILDING, lines)
        match version.state:
            case VersionState.SUCCESSFUL:
                return BuildStatus(build, BuildPhase.READY, lines)
            case VersionState.PENDING:
                return BuildStatus(build, BuildPhase.WAITING, lines)
            case VersionState.IN_PROGRESS:
                return BuildStatus(build, BuildPhase.BUILDING, lines)
        reason, step = await in_thread(self._explain, build, version)
        return BuildStatus(build, BuildPhase.ERROR, lines, reason, step)

    def _tell_begun(self, build: TemplateBuild) -> BuildStatus:
        if build.reason is not None:
            return BuildStatus(build, BuildPhase.ERROR, (), build.reason, build.failed_step)
        if build.recipe is None:
            return BuildStatus(build, BuildPhase.WAITING, ())
        if self._builds.is_under_way(build):
            return BuildStatus(build, BuildPhase.BUILDING, ())
        return BuildStatus(build, BuildPhase.ERROR, (), INTERRUPTED, BASE_STEP)

    # --- lines

    def _is_log_whole(self, build: TemplateBuild, version: ImageVersion) -> bool:
        """Say whether the last line of a build that has ended is stored: lines are, some moments after they come."""
        if version.state in (VersionState.PENDING, VersionState.IN_PROGRESS):
            return True
        if (datetime.now(UTC) - version.updated_at).total_seconds() > _LAST_LINE_WITHIN_S:
            return True
        last, _ = self._logs.page(*self._place(build, version), 0, 1, newest=True)
        return bool(last) and last[0].message.startswith(_LAST)

    def _read(self, build: TemplateBuild, version: ImageVersion, offset: int, limit: int) -> list[LogEvent]:
        """Return lines; where the last ones ended is remembered, so that nobody counts them again."""
        after = self._places.get((build.id, offset))
        skip = 0 if after is not None else offset
        group, streams = self._place(build, version)
        place = after or 0
        while True:
            found, has_more = self._logs.page(group, streams, place, skip + limit)
            if skip < len(found) or not has_more:
                break
            skip -= len(found)
            place = found[-1].id
        lines = found[skip : skip + limit]
        if lines:
            self._places[build.id, offset + len(lines)] = lines[-1].id
            while len(self._places) > _PLACES_MAX:
                self._places.popitem(last=False)
        return lines

    def _place(self, build: TemplateBuild, version: ImageVersion) -> tuple[LogGroup, list[str]]:
        group = LogGroup(build.account_id, version.request.log_group(build.name))
        builds = self._images.list_builds(version.image_id, version.version)
        since, until = version.created_at, datetime.now(UTC)
        return group, [name for one in builds for name in log_stream_names("0.0", one.id, since, until)]

    def _explain(self, build: TemplateBuild, version: ImageVersion) -> tuple[str, str]:
        """Return why a build failed, with the last lines of its log, and at which step."""
        group, streams = self._place(build, version)
        number, is_built, place, tail = 0, False, 0, [""]
        while True:
            found, has_more = self._logs.page(group, streams, place, _PAGE_EVENTS)
            for event in found:
                told = _INSTRUCTION.search(event.message)
                number = int(told[1] or told[2]) if told is not None else number
                is_built = is_built or event.message.startswith(_BUILT)
            tail = [*tail, *(event.message for event in found)][-_TAIL:]
            if not has_more:
                break
            place = found[-1].id
        builds = self._images.list_builds(version.image_id, version.version)
        reason = next((one.state_reason for one in builds if one.state_reason), None) or "the build failed"
        return "\n".join([reason, *filter(None, tail)]), _step_of(build, number, is_built=is_built)


def _step_of(build: TemplateBuild, number: int, *, is_built: bool) -> str:
    dockerfile = dockerfile_of(build)
    if is_built:
        return FINAL_STEP
    return (dockerfile.step_of(number) if dockerfile is not None and number else "") or BASE_STEP
