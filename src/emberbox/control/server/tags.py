"""Tags of images and network connectors (dossier, section 2.7): merged when added, removed without complaint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emberbox.control.connectors.egress import ConnectorFinder
from emberbox.control.images.engines import find_refusal
from emberbox.control.images.service import ImageFinder
from emberbox.control.requests.tags import check_tags, engine_of
from emberbox.machine.base import Engines
from emberbox.model.caller import Caller
from emberbox.model.connectors import ConnectorName
from emberbox.model.images import ImageName
from emberbox.store.connectors import ConnectorStore
from emberbox.store.images import ImageStore

Tags = Mapping[str, str]
Tagged = ImageName | ConnectorName
"""Names what has tags."""


@dataclass(frozen=True, slots=True)
class AddTags:
    """Asks for tags: new keys are added, known keys get the new value."""

    resource: Tagged
    tags: Tags


@dataclass(frozen=True, slots=True)
class RemoveTags:
    """Asks for tags to go; keys that are not there are ignored."""

    resource: Tagged
    keys: frozenset[str]


class TagService:
    """Keeps the tags of what has any.

    Args:
        images: finds images.
        image_store: keeps their tags.
        connectors: finds network connectors.
        connector_store: keeps their tags.
        engines: those that an image's tag may ask for.
    """

    def __init__(
        self,
        images: ImageFinder,
        image_store: ImageStore,
        connectors: ConnectorFinder,
        connector_store: ConnectorStore,
        engines: Engines,
    ) -> None:
        self._images = images
        self._image_store = image_store
        self._connectors = connectors
        self._connector_store = connector_store
        self._engines = engines

    async def add(self, caller: Caller, asked: AddTags) -> None:
        """Add tags.

        Raises:
            NotFoundError: there is no such resource.
            ValidationError: they are not allowed, with those that there are.
        """
        self._find(caller, asked.resource)
        name = engine_of(asked.tags)
        refusal = await find_refusal(self._engines, name) if isinstance(asked.resource, ImageName) else None
        tags, store = self._find(caller, asked.resource)
        merged = {**tags, **asked.tags}
        check_tags(merged)
        if refusal is not None:
            raise refusal
        store(merged)

    def remove(self, caller: Caller, asked: RemoveTags) -> None:
        """Remove tags.

        Raises:
            NotFoundError: there is no such resource.
        """
        tags, store = self._find(caller, asked.resource)
        store({key: value for key, value in tags.items() if key not in asked.keys})

    def tags_of(self, caller: Caller, resource: Tagged) -> Tags:
        """Return the tags of a resource.

        Raises:
            NotFoundError: there is no such resource.
        """
        return self._find(caller, resource)[0]

    def _find(self, caller: Caller, resource: Tagged) -> tuple[Tags, Callable[[Tags], None]]:
        """Return the tags of a resource, and what stores other ones."""
        if isinstance(resource, ConnectorName):
            connector = self._connectors.find(caller, resource).connector
            return connector.tags, lambda tags: self._connector_store.set_tags(connector.id, tags)
        image = self._images.find(caller, resource)
        return image.tags, lambda tags: self._image_store.set_tags(image.id, tags)
