"""All that answers for sandboxes, put together."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.control.images.service import ImageService
from emberbox.control.images.versions import ImageVersionService
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import PageTokens
from emberbox.control.sandboxes.build_status import BuildStatuses
from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.service import SandboxService
from emberbox.control.sandboxes.snapshots import SandboxSnapshots
from emberbox.control.sandboxes.template_builds import TemplateBuilds
from emberbox.control.sandboxes.template_lists import TemplateLists
from emberbox.control.sandboxes.template_tags import TemplateTags
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.control.sandboxes.uploads import Uploads
from emberbox.store.images import ImageStore
from emberbox.store.logs import LogStore
from emberbox.store.sandboxes import SandboxStore
from emberbox.store.snapshots import SnapshotStore
from emberbox.store.templates import TemplateStore


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """Who answers for sandboxes.

    Args:
        templates: finds what they are created from.
        service: makes, tells of and ends them.
        snapshots: takes their snapshots.
        door: finds what runs in them.
        images: tells their sizes.
        names: of templates and snapshots.
    """

    templates: TemplateFinder
    service: SandboxService
    snapshots: SandboxSnapshots
    door: SandboxDoor
    images: ImageStore
    names: TemplateStore


@dataclass(frozen=True, slots=True)
class Templates:
    """Who answers for templates.

    Args:
        finder: finds them.
        builds: makes them; whoever made this closes it.
        statuses: tells how far builds are.
        tags: answers for tags.
        lists: lists them.
    """

    finder: TemplateFinder
    builds: TemplateBuilds
    statuses: BuildStatuses
    tags: TemplateTags
    lists: TemplateLists


def make_templates(
    sandboxes: Sandboxes, images: ImageService, versions: ImageVersionService, logs: LogStore, uploads: Uploads
) -> Templates:
    """Make it; the arguments are what those take."""
    finder, names = sandboxes.templates, sandboxes.names
    builds = TemplateBuilds(names, finder, images, versions, uploads)
    return Templates(
        finder,
        builds,
        BuildStatuses(builds, sandboxes.images, logs),
        TemplateTags(names, finder, sandboxes.images),
        TemplateLists(images, sandboxes.images, names, finder),
    )


def make_sandboxes(
    *, store: SandboxStore, snapshots: SnapshotStore, names: TemplateStore, images: ImageStore,
    microvms: MicrovmService, forks: ForkService, versions: ImageVersionService, runners: Runners, timers: Timers,
    page_tokens: PageTokens, region: str, standard_template: str,
) -> Sandboxes:  # fmt: skip
    """Make it; the arguments are what those take."""
    templates = TemplateFinder(images, names, region, standard_template)
    service = SandboxService(
        store=store, templates=templates, microvms=microvms, forks=forks, runners=runners, timers=timers,
        page_tokens=page_tokens,
    )  # fmt: skip
    taken = SandboxSnapshots(
        store=snapshots, names=names, images=images, sandboxes=service, templates=templates, forks=forks,
        versions=versions, page_tokens=page_tokens,
    )  # fmt: skip
    return Sandboxes(templates, service, taken, SandboxDoor(store, runners, service), images, names)
