"""What E2B calls a template: an image, by its name or id, with a version behind a colon where one is meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError
from emberbox.model.records import Image
from emberbox.model.states import VersionState, VersionStatus
from emberbox.store.images import ImageStore

STANDARD: Final = ("base", "code-interpreter-v1")
"""The templates that E2B's SDKs ask for where their users name none."""

LATEST: Final = ("default", "latest")
"""Tags that mean no version in particular."""


@dataclass(frozen=True, slots=True)
class Template:
    """An image as a template.

    Args:
        image: it.
        version: the version that is meant; None where none can be launched.
    """

    image: Image
    version: str | None = None


class TemplateFinder:
    """Finds templates.

    Args:
        store: images.
        region: the region played.
        standard: the name of the image that stands for the standard templates; empty where there is none.
    """

    def __init__(self, store: ImageStore, region: str, standard: str) -> None:
        self._store = store
        self._region = region
        self._standard = standard

    def find(self, caller: Caller, named: str) -> Template:
        """Return the template of a name or an id, of the caller's account.

        Raises:
            NotFoundError: there is none; the text says what to do.
        """
        name, _, tag = named.rpartition("/")[2].partition(":")
        image = self._find_image(caller.account_id, name)
        if image is None and name in STANDARD and self._standard:
            image = self._find_image(caller.account_id, self._standard)
        if image is not None:
            return Template(image, self._newest(image) if tag in ("", *LATEST) else tag)
        hint = ""
        if name in STANDARD:
            hint = (
                f"; name a template (Sandbox.create('my-image')), build an image called {name}, "
                "or let EMBERBOX_E2B_TEMPLATE name the image that stands for it"
            )
        raise NotFoundError(f"template '{named}' not found: the account has no image of this name or id{hint}")

    def _newest(self, image: Image) -> str | None:
        """A snapshot of a sandbox is a version of its image, and is meant only where it is named."""
        for version in self._store.list_versions(image.id):
            is_launchable = version.state is VersionState.SUCCESSFUL and version.status is VersionStatus.ACTIVE
            if is_launchable and not self._store.is_checkpoint(image.id, version.version):
                return version.version
        return None

    def _find_image(self, account_id: str, name: str) -> Image | None:
        found = self._store.find_named(account_id, name, self._region)
        if found is not None:
            return found
        by_id = self._store.find_by_id(name)
        return by_id if by_id is not None and by_id.account_id == account_id else None
