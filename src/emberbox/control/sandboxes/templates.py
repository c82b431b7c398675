"""What E2B calls a template: an image, by its name or id, with a tag or a version behind a colon where one is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.records import Image
from emberbox.model.states import VersionState, VersionStatus
from emberbox.model.templates import DEFAULT_TAG, TemplateName, split_name
from emberbox.store.images import ImageStore
from emberbox.store.templates import TemplateStore

STANDARD: Final = ("base", "code-interpreter-v1")
"""The templates that E2B's SDKs ask for where their users name none."""

LATEST: Final = (DEFAULT_TAG, "latest")
"""Tags that mean no version in particular, unless they have been assigned to one."""


@dataclass(frozen=True, slots=True)
class Template:
    """An image as a template.

    Args:
        image: it.
        version: the version that is meant; None where none can be launched.
        is_snapshot: the version is a snapshot of a sandbox, which is launched where it is named alone.
    """

    image: Image
    version: str | None = None
    is_snapshot: bool = False


class TemplateFinder:
    """Finds templates.

    Args:
        store: images.
        names: those that lead to versions.
        region: the region played.
        standard: the name of the image that stands for the standard templates; empty where there is none.
    """

    def __init__(self, store: ImageStore, names: TemplateStore, region: str, standard: str) -> None:
        self._store = store
        self._names = names
        self._region = region
        self._standard = standard

    def find(self, caller: Caller, named: str) -> Template:
        """Return the template of a name or an id, of the caller's account.

        Raises:
            NotFoundError: there is none; the text says what to do.
        """
        name, tag = split_name(named)
        image = self.find_image(caller.account_id, name)
        found = self._find_assigned(caller.account_id, name if image is None else image.name, tag)
        if found is None and image is None and name in STANDARD and self._standard:
            image = self.find_image(caller.account_id, self._standard)
            found = None if image is None else self._find_assigned(caller.account_id, image.name, tag)
        if found is not None:
            return found
        if image is not None:
            return Template(image, self._newest(image) if tag in ("", *LATEST) else tag)
        hint = ""
        if name in STANDARD:
            hint = (
                f"; build it with `emberbox e2b-templates build {name}`, name a template "
                "(Sandbox.create('my-image')), or let EMBERBOX_E2B_TEMPLATE name the image that stands for it"
            )
        raise NotFoundError(f"template '{named}' not found: the account has no image of this name or id{hint}")

    def find_image(self, account_id: str, name: str) -> Image | None:
        """Return an image of an account by its name or id; None where there is none."""
        found = self._store.find_named(account_id, name, self._region)
        if found is not None:
            return found
        by_id = self._store.find_by_id(name)
        return by_id if by_id is not None and by_id.account_id == account_id else None

    def _find_assigned(self, account_id: str, name: str, tag: str) -> Template | None:
        """Return where a name and a tag lead: to the newest of their versions that can be launched."""
        for one in dict.fromkeys((tag or DEFAULT_TAG, DEFAULT_TAG if tag in LATEST else tag or DEFAULT_TAG)):
            for assigned in self._names.list_names(account_id, name, one):
                image = self._store.find_by_id(assigned.image_id)
                if image is not None and self._is_launchable(assigned):
                    return Template(image, assigned.version, assigned.is_snapshot)
        return None

    def _is_launchable(self, assigned: TemplateName) -> bool:
        version = self._store.find_version(assigned.image_id, assigned.version)
        if version is None or version.state is not VersionState.SUCCESSFUL:
            return False
        return version.status is VersionStatus.ACTIVE or assigned.is_snapshot

    def _newest(self, image: Image) -> str | None:
        """A snapshot of a sandbox is a version of its image, and is meant only where it is named."""
        for version in self._store.list_versions(image.id):
            is_launchable = version.state is VersionState.SUCCESSFUL and version.status is VersionStatus.ACTIVE
            if is_launchable and not self._store.is_checkpoint(image.id, version.version):
                return version.version
        return None
