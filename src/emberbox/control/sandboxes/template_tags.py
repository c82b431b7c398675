"""Tags of templates: assigned to builds, taken away, listed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from emberbox.control.sandboxes.names import check_tag
from emberbox.control.sandboxes.templates import Template, TemplateFinder
from emberbox.model.caller import Caller
from emberbox.model.errors import NotFoundError, ValidationError
from emberbox.model.templates import TemplateName, split_name
from emberbox.store.images import ImageStore
from emberbox.store.templates import TemplateStore


class TemplateTags:
    """Answers for tags.

    Args:
        store: the rows.
        finder: finds templates.
        images: their builds.
    """

    def __init__(self, store: TemplateStore, finder: TemplateFinder, images: ImageStore) -> None:
        self._store = store
        self._finder = finder
        self._images = images

    def assign(self, caller: Caller, target: str, tags: tuple[str, ...]) -> TemplateName:
        """Let tags lead to where a name leads now; return that.

        Args:
            caller: whose they are.
            target: a name, perhaps with a tag.
            tags: of the same name.

        Raises:
            NotFoundError: there is no such template, or none that can be launched.
            ValidationError: of the tags.
        """
        for tag in tags:
            check_tag(tag)
        found = self._finder.find(caller, target)
        assigned = self._describe(caller, found, target)
        for tag in tags:
            self._store.put_name(replace(assigned, tag=tag))
        return assigned

    def _describe(self, caller: Caller, found: Template, target: str) -> TemplateName:
        builds = [] if found.version is None else self._images.list_builds(found.image.id, found.version)
        if found.version is None or not builds:
            raise NotFoundError(f"template '{target}' not found: it has no version that can be launched")
        made = self._store.find_build_of(found.image.id, found.version)
        build_id = builds[0].id if made is None else made.id
        name = split_name(target)[0] if found.is_snapshot else found.image.name
        now = datetime.now(UTC)
        return TemplateName(
            caller.account_id, name, "", found.image.id, found.version, build_id, now, found.is_snapshot
        )

    def remove(self, caller: Caller, named: str, tags: tuple[str, ...]) -> None:
        """Take tags away from a name.

        Raises:
            NotFoundError: it has none of them.
            ValidationError: none is named.
        """
        if not tags:
            raise ValidationError("tags must name one at least")
        name = split_name(named)[0]
        removed = [self._store.remove_tag(caller.account_id, name, tag) for tag in tags]
        if not any(removed):
            raise NotFoundError(f"template '{name}' has no tag {', '.join(tags)}")

    def list_all(self, caller: Caller, named: str) -> list[TemplateName]:
        """Return where the tags of a template, by its name or id, lead now.

        Raises:
            NotFoundError: there is no such template.
        """
        name = split_name(named)[0]
        image = self._finder.find_image(caller.account_id, name)
        found = self._store.list_names(caller.account_id, name if image is None else image.name)
        if image is None and not found:
            raise NotFoundError(f"template '{name}' not found")
        newest: dict[str, TemplateName] = {}
        for one in found:
            newest.setdefault(one.tag, one)
        return list(newest.values())
