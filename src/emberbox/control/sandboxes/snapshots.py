"""Snapshots of sandboxes: versions of their images, which sandboxes are created from only where they are named.

They are INACTIVE, so that AWS's RunMicrovm without a version never begins with one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from emberbox.control.images.versions import ImageVersionService
from emberbox.control.microvms.commands import SnapshotMicrovm
from emberbox.control.microvms.forks import ForkService, TakenSnapshot
from emberbox.control.requests.paging import Page, PageRequest, PageTokens, cut_page
from emberbox.control.sandboxes.names import check_name, check_tag
from emberbox.control.sandboxes.service import SandboxService
from emberbox.control.sandboxes.templates import TemplateFinder
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.images import ImageName, VersionName
from emberbox.model.states import VersionStatus
from emberbox.model.templates import DEFAULT_TAG, TemplateName, split_name
from emberbox.store.images import ImageStore
from emberbox.store.snapshots import Snapshot, SnapshotStore
from emberbox.store.templates import TemplateStore

_LIST = "ListSnapshots"


@dataclass(frozen=True, slots=True)
class ListSnapshots:
    """Asks for snapshots, oldest first.

    Args:
        page: which page.
        sandbox_id: of this sandbox alone, also when it has ended.
    """

    page: PageRequest
    sandbox_id: str | None = None


class SandboxSnapshots:
    """Takes, lists and deletes them.

    Args:
        store: the rows.
        names: of snapshots.
        images: their versions and builds.
        sandboxes: finds sandboxes.
        templates: finds those that have the name that one is to have.
        forks: takes snapshots.
        versions: deletes them.
        page_tokens: for the list.
    """

    def __init__(
        self, *, store: SnapshotStore, names: TemplateStore, images: ImageStore, sandboxes: SandboxService,
        templates: TemplateFinder, forks: ForkService, versions: ImageVersionService, page_tokens: PageTokens,
    ) -> None:  # fmt: skip
        self._store = store
        self._names = names
        self._images = images
        self._sandboxes = sandboxes
        self._templates = templates
        self._forks = forks
        self._versions = versions
        self._page_tokens = page_tokens

    async def take(self, caller: Caller, sandbox_id: str, named: str = "") -> Snapshot:
        """Snapshot a sandbox, which goes on as it was.

        Args:
            caller: whose it is.
            sandbox_id: which.
            named: what the snapshot is called, perhaps with a tag; without a name it has its image's and its version's.

        Raises:
            ServiceError: there is no such sandbox, the name is a template's, or it could not be done.
        """
        sandbox = self._sandboxes.get(caller, sandbox_id)
        name, tag = split_name(named)
        if named:
            check_name(name)
            check_tag(tag or DEFAULT_TAG)
            if self._templates.find_image(caller.account_id, name) is not None:
                raise ValidationError(f"name: {name} is a template; give the snapshot another name")
        taken = await self._forks.snapshot(caller, SnapshotMicrovm(sandbox.id, status=VersionStatus.INACTIVE))
        self._name(taken, name or taken.image.name, tag or (DEFAULT_TAG if name else taken.version.version))
        image, version = taken.image, taken.version
        return Snapshot(image.name, image.arn, version.version, sandbox.id, version.created_at, image.id)

    def _name(self, taken: TakenSnapshot, name: str, tag: str) -> None:
        image, version = taken.image, taken.version.version
        (build, *_) = self._images.list_builds(image.id, version)
        now = datetime.now(UTC)
        self._names.put_name(
            TemplateName(image.account_id, name, tag, image.id, version, build.id, now, is_snapshot=True)
        )

    def names(self, snapshot: Snapshot) -> list[str]:
        """Return the names of a snapshot; it has one at least."""
        found = self._names.names_of(snapshot.image_id, snapshot.version)
        return [f"{one.name}:{one.tag}" for one in found] or [f"{snapshot.image_name}:{snapshot.version}"]

    def list_snapshots(self, caller: Caller, asked: ListSnapshots) -> Page[Snapshot]:
        """Return snapshots of the caller's account.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        found = self._store.list_all(caller.account_id, asked.sandbox_id)
        return cut_page(self._page_tokens, _LIST, found, asked.page)

    def find(self, caller: Caller, name: str, tag: str) -> Snapshot | None:
        """Return a snapshot of the caller's account by its name and its tag; None where there is none."""
        assigned = self._names.list_names(caller.account_id, name, tag or DEFAULT_TAG)
        places = {(one.image_id, one.version) for one in assigned[:1] if one.is_snapshot}
        for snapshot in self._store.list_all(caller.account_id):
            is_named = (snapshot.image_name, snapshot.version) == (name, tag)
            if is_named or (snapshot.image_id, snapshot.version) in places:
                return snapshot
        return None

    async def delete(self, caller: Caller, snapshot: Snapshot) -> None:
        """Begin to delete a snapshot.

        Raises:
            ServiceError: sandboxes of it exist, or something is under way with its image.
        """
        name = ImageName(snapshot.image_name, named=snapshot.image_name)
        await self._versions.delete(caller, VersionName(name, snapshot.version))
        self._names.remove_names_of(snapshot.image_id, snapshot.version)


def no_such_snapshot(name: str, tag: str) -> NotFoundError:
    """Return the error for a snapshot that is not there."""
    return NotFoundError(f"snapshot {name}:{tag} not found")
