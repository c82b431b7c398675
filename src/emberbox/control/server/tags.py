"""Tags of images and network connectors (dossier, section 2.7): merged when added, removed without complaint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from emberbox.control.connectors.egress import ConnectorFinder
from emberbox.control.images.service import ImageFinder
from emberbox.control.requests.tags import check_tags
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import ValidationError
from emberbox.store.connectors import ConnectorStore
from emberbox.store.images import ImageStore

Tags = Mapping[str, str]


class TagService:
    """Answers the tag operations.

    Args:
        images: finds images.
        image_store: keeps their tags.
        connectors: finds network connectors.
        connector_store: keeps their tags.
    """

    def __init__(
        self,
        images: ImageFinder,
        image_store: ImageStore,
        connectors: ConnectorFinder,
        connector_store: ConnectorStore,
    ) -> None:
        self._images = images
        self._image_store = image_store
        self._connectors = connectors
        self._connector_store = connector_store

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list_tags}

    async def tag(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """TagResource: new keys are added, known keys get the new value."""
        tags, store = self._find(caller, parameters["Resource"])
        merged = {**tags, **parameters["Tags"]}
        check_tags(merged)
        store(merged)
        return {}

    async def untag(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """UntagResource: keys that are not there are ignored."""
        tags, store = self._find(caller, parameters["Resource"])
        keys = set(parameters["TagKeys"])
        store({key: value for key, value in tags.items() if key not in keys})
        return {}

    async def list_tags(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListTags: an empty object where there are none."""
        return {"Tags": self._find(caller, parameters["Resource"])[0]}

    def _find(self, caller: Caller, arn: str) -> tuple[Tags, Callable[[Tags], None]]:
        """Return the tags of a resource, and what stores other ones.

        Raises:
            ValidationError, AccessDeniedError, NotFoundError: there is no such resource of the caller's.
        """
        kind = arn.split(":")[5]
        if kind == "network-connector":
            connector, _ = self._connectors.find_by_arn(caller, arn)
            return connector.tags, lambda tags: self._connector_store.set_tags(connector.id, tags)
        if kind == "microvm-image":
            image = self._images.find_by_arn(caller, arn)
            return image.tags, lambda tags: self._image_store.set_tags(image.id, tags)
        raise ValidationError(f"Only images and network connectors have tags here, not a {kind}: {arn}")
