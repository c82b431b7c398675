"""Tags of images (dossier, section 2.7): merged when added, removed without complaint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emberbox.control.image_rules import check_tags
from emberbox.control.images import ImageFinder
from emberbox.model.caller import Caller, Handler
from emberbox.store.images import ImageStore


class TagService:
    """Answers the tag operations.

    Args:
        finder: finds images.
        store: keeps the tags.
    """

    def __init__(self, finder: ImageFinder, store: ImageStore) -> None:
        self._finder = finder
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list_tags}

    async def tag(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """TagResource: new keys are added, known keys get the new value."""
        image = self._finder.find_by_arn(caller, parameters["Resource"])
        tags = {**image.tags, **parameters["Tags"]}
        check_tags(tags)
        self._store.set_tags(image.id, tags)
        return {}

    async def untag(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """UntagResource: keys that are not there are ignored."""
        image = self._finder.find_by_arn(caller, parameters["Resource"])
        keys = set(parameters["TagKeys"])
        self._store.set_tags(image.id, {key: value for key, value in image.tags.items() if key not in keys})
        return {}

    async def list_tags(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        """ListTags: an empty object where there are none."""
        return {"Tags": self._finder.find_by_arn(caller, parameters["Resource"]).tags}
