"""Lists of templates, which are the images of an account, and of the builds of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from emberbox.control.images.commands import ListImages
from emberbox.control.images.service import ImageService
from emberbox.control.requests.paging import Page, PageRequest
from emberbox.control.sandboxes.build_status import BuildPhase
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.records import Image, ImageVersion
from emberbox.model.states import ImageState, VersionState
from emberbox.store.images import ImageStore
from emberbox.store.templates import TemplateStore, Uses

_PAGE: Final = 100
_PHASES: Final[Mapping[VersionState, BuildPhase]] = {
    VersionState.PENDING: BuildPhase.WAITING,
    VersionState.IN_PROGRESS: BuildPhase.BUILDING,
    VersionState.SUCCESSFUL: BuildPhase.READY,
    VersionState.FAILED: BuildPhase.ERROR,
}
"""Versions in other states are going or gone, and no builds that anybody has."""


@dataclass(frozen=True, slots=True)
class ListedBuild:
    """A version as a build of a template.

    Args:
        id: of the build.
        version: it.
        phase: how far it is.
    """

    id: str
    version: ImageVersion
    phase: BuildPhase


@dataclass(frozen=True, slots=True)
class ListedTemplate:
    """What a list tells of a template.

    Args:
        image: it.
        builds: of it, newest first; one at least.
        current: the build that sandboxes are created from; where none can be, the newest.
        uses: the sandboxes of it that the server still knows.
    """

    image: Image
    builds: Sequence[ListedBuild]
    current: ListedBuild
    uses: Uses


class TemplateLists:
    """Lists templates; its calls read many rows, and are for threads.

    Args:
        images: list themselves.
        store: their versions and builds.
        names: the builds of templates.
        finder: says what sandboxes are created from.
    """

    def __init__(self, images: ImageService, store: ImageStore, names: TemplateStore, finder: TemplateFinder) -> None:
        self._images = images
        self._store = store
        self._names = names
        self._finder = finder

    def list_page(self, caller: Caller, asked: PageRequest) -> Page[ListedTemplate]:
        """Return templates, newest first; a page may have less than was asked for, and others after it.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        page = self._images.list_images(caller, ListImages(asked))
        uses = self._names.uses_of(caller.account_id)
        found = [self._describe(caller, image, uses.get(image.id, Uses())) for image in page.items]
        return Page([one for one in found if one is not None], page.next_token)

    def list_all(self, caller: Caller) -> list[ListedTemplate]:
        """Return every template, newest first."""
        found: list[ListedTemplate] = []
        token: str | None = None
        while True:
            page = self.list_page(caller, PageRequest(_PAGE, token))
            found += page.items
            if (token := page.next_token) is None:
                return found

    def find(self, caller: Caller, named: str) -> ListedTemplate:
        """Return a template by its name or id.

        Raises:
            NotFoundError: there is none.
        """
        image = self._finder.find_image(caller.account_id, named)
        uses = {} if image is None else self._names.uses_of(caller.account_id)
        found = None if image is None else self._describe(caller, image, uses.get(image.id, Uses()))
        if found is None:
            raise NotFoundError(f"template '{named}' not found: the account has no image of this name or id")
        return found

    def _describe(self, caller: Caller, image: Image, uses: Uses) -> ListedTemplate | None:
        """Return what is told of an image; None of one that is being deleted, or has nothing that was built."""
        builds = [] if image.state is ImageState.DELETING else list(self._builds_of(image))
        if not builds:
            return None
        try:
            launched = self._finder.find(caller, image.id).version
        except NotFoundError:  # it has gone meanwhile
            return None
        current = next((one for one in builds if one.version.version == launched), builds[0])
        return ListedTemplate(image, builds, current, uses)

    def _builds_of(self, image: Image) -> Iterator[ListedBuild]:
        """Yield the builds of an image; snapshots of sandboxes are versions of it too, but were not built."""
        for version in self._store.list_versions(image.id):
            phase = _PHASES.get(version.state)
            if phase is None or self._store.is_checkpoint(image.id, version.version):
                continue
            made = self._names.find_build_of(image.id, version.version)
            found = [made] if made is not None else self._store.list_builds(image.id, version.version)
            for build in found[:1]:
                yield ListedBuild(build.id, version, phase)
