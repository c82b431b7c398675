"""All that answers for sandboxes, put together."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.control.images.versions import ImageVersionService
from emberbox.control.microvms.forks import ForkService
from emberbox.control.microvms.runners import Runners
from emberbox.control.microvms.service import MicrovmService
from emberbox.control.microvms.timers import Timers
from emberbox.control.requests.paging import PageTokens
from emberbox.control.sandboxes.door import SandboxDoor
from emberbox.control.sandboxes.service import SandboxService
from emberbox.control.sandboxes.snapshots import SandboxSnapshots
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.store.images import ImageStore
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
    """

    templates: TemplateFinder
    service: SandboxService
    snapshots: SandboxSnapshots
    door: SandboxDoor
    images: ImageStore


def make_sandboxes(
    *, store: SandboxStore, snapshots: SnapshotStore, names: TemplateStore, images: ImageStore, microvms: MicrovmService, forks: ForkService,
    versions: ImageVersionService, runners: Runners, timers: Timers, page_tokens: PageTokens, region: str,
    standard_template: str,
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
    return Sandboxes(templates, service, taken, SandboxDoor(store, runners, service), images)
