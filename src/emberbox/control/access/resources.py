"""What the authoriser looks up: owners, images and tags."""

from __future__ import annotations

from collections.abc import Mapping

from emberbox.control.access.identities import Identities
from emberbox.model.iam.access import AccessKey, Role
from emberbox.store.connectors import ConnectorStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

_REMEMBERED_MAX = 20_000


class ResourceIndex:
    """Answers from the rows; a microVM's image never changes, so it is remembered.

    Args:
        images: the image rows.
        microvms: the microVM rows.
        connectors: the network connector rows.
        identities: knows the access keys.
    """

    def __init__(
        self, images: ImageStore, microvms: MicrovmStore, connectors: ConnectorStore, identities: Identities
    ) -> None:
        self._images = images
        self._microvms = microvms
        self._connectors = connectors
        self._identities = identities
        self._image_of: dict[str, tuple[str, str]] = {}

    def image_of(self, account_id: str, microvm_id: str) -> str | None:
        """Return the ARN of a microVM's image; None when the account has no such microVM."""
        found = self._image_of.get(microvm_id)
        if found is None:
            microvm = self._microvms.find(microvm_id)
            if microvm is None:
                return None
            if len(self._image_of) >= _REMEMBERED_MAX:
                self._image_of.clear()
            found = self._image_of[microvm_id] = (microvm.account_id, microvm.image_arn)
        owner, image = found
        return image if owner == account_id else None

    def egress_of(self, image_arn: str, version: str | None) -> list[str]:
        """Return the egress connectors of an image's version, or of its latest active one."""
        image = self._images.find(image_arn)
        wanted = version or (image and image.latest_active_version)
        found = self._images.find_version(image.id, wanted) if image and wanted else None
        return list(found.request.egress) if found else []

    def connector_arn(self, account_id: str, identifier: str) -> str | None:
        """Return the ARN of the account's connector of an id or a name."""
        found = self._connectors.find(account_id, identifier)
        return None if found is None else found.arn

    def tags_of(self, arn: str) -> Mapping[str, str]:
        """Return the tags of a resource; none when it does not exist."""
        found = self._images.find(arn) or self._connectors.find_by_arn(arn)
        return {} if found is None else found.tags

    def find_key(self, account_id: str, access_key_id: str) -> AccessKey | None:
        """Return an access key that the account may know of."""
        return self._identities.find_key(account_id, access_key_id)

    def find_role(self, account_id: str, name: str) -> Role | None:
        """Return a role of an account."""
        return self._identities.find_role(account_id, name)
