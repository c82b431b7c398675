"""Snapshots of sandboxes: versions of their images, which sandboxes are created from only where they are named."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.control.images.versions import ImageVersionService
from emberbox.control.microvms.commands import SnapshotMicrovm
from emberbox.control.microvms.forks import ForkService
from emberbox.control.requests.paging import Page, PageRequest, PageTokens, cut_page
from emberbox.control.sandboxes.service import SandboxService
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.images import ImageName, VersionName
from emberbox.store.snapshots import Snapshot, SnapshotStore

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
        sandboxes: finds sandboxes.
        forks: takes snapshots.
        versions: deletes them.
        page_tokens: for the list.
    """

    def __init__(
        self, *, store: SnapshotStore, sandboxes: SandboxService, forks: ForkService, versions: ImageVersionService,
        page_tokens: PageTokens,
    ) -> None:  # fmt: skip
        self._store = store
        self._sandboxes = sandboxes
        self._forks = forks
        self._versions = versions
        self._page_tokens = page_tokens

    async def take(self, caller: Caller, sandbox_id: str) -> Snapshot:
        """Snapshot a sandbox, which goes on as it was.

        Raises:
            ServiceError: there is none, or it could not be done.
        """
        sandbox = self._sandboxes.get(caller, sandbox_id)
        taken = await self._forks.snapshot(caller, SnapshotMicrovm(sandbox.id))
        image, version = taken.image, taken.version
        return Snapshot(image.name, image.arn, version.version, sandbox.id, version.created_at)

    def list_snapshots(self, caller: Caller, asked: ListSnapshots) -> Page[Snapshot]:
        """Return snapshots of the caller's account.

        Raises:
            ValidationError: the page's token is not one of this list's.
        """
        found = self._store.list_all(caller.account_id, asked.sandbox_id)
        return cut_page(self._page_tokens, _LIST, found, asked.page)

    def find(self, caller: Caller, name: str, version: str) -> Snapshot:
        """Return a snapshot of the caller's account.

        Raises:
            NotFoundError: there is none.
        """
        for snapshot in self._store.list_all(caller.account_id):
            if (snapshot.image_name, snapshot.version) == (name, version):
                return snapshot
        raise NotFoundError(f"snapshot {name}:{version} not found")

    async def delete(self, caller: Caller, snapshot: Snapshot) -> None:
        """Begin to delete a snapshot.

        Raises:
            ServiceError: sandboxes of it exist, or something is under way with its image.
        """
        name = ImageName(snapshot.image_name, named=snapshot.image_name)
        await self._versions.delete(caller, VersionName(name, snapshot.version))
