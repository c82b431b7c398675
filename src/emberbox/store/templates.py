"""Queries about E2B's templates: their builds, and the names that lead to versions of images."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, delete, func, insert, select, update

from emberbox.model.templates import Recipe, TemplateBuild, TemplateName
from emberbox.store.database import Database
from emberbox.store.schema import images, microvms, sandboxes, template_builds, template_names


class Uses(NamedTuple):
    """The sandboxes of a template: how many, and when the last of them was started."""

    total: int = 0
    last_at: datetime | None = None


def _build(row: Row[Any]) -> TemplateBuild:
    values = dict(row._mapping)
    recipe = values.pop("recipe")
    values["tags"] = tuple(values["tags"])
    return TemplateBuild(**values, recipe=None if recipe is None else Recipe.from_json(recipe))


class TemplateStore:
    """The rows of templates.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- builds

    def add_build(self, build: TemplateBuild) -> None:
        """Store a build that has not begun."""
        values = {name: getattr(build, name) for name in TemplateBuild.__slots__ if name != "recipe"}
        with self._database.transaction() as connection:
            connection.execute(insert(template_builds).values(values | {"tags": list(build.tags)}))

    def find_build(self, build_id: str) -> TemplateBuild | None:
        """Return a build."""
        with self._database.reading() as connection:
            row = connection.execute(select(template_builds).where(template_builds.c.id == build_id)).first()
        return None if row is None else _build(row)

    def find_newest_of(self, account_id: str, name: str) -> TemplateBuild | None:
        """Return the newest build of a name."""
        query = (
            select(template_builds)
            .where(template_builds.c.account_id == account_id, template_builds.c.name == name)
            .order_by(template_builds.c.created_at.desc())
        )
        with self._database.reading() as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else _build(row)

    def find_build_of(self, image_id: str, version: str) -> TemplateBuild | None:
        """Return the build that made a version of an image."""
        where = (template_builds.c.image_id == image_id, template_builds.c.version == version)
        with self._database.reading() as connection:
            row = connection.execute(select(template_builds).where(*where)).first()
        return None if row is None else _build(row)

    def uses_of(self, account_id: str) -> Mapping[str, Uses]:
        """Return the uses of an account's templates by the id of the image, as far as their rows are still there."""
        query = (
            select(microvms.c.image_id, func.count(), func.max(microvms.c.started_at))
            .join(sandboxes, sandboxes.c.id == microvms.c.id)
            .where(sandboxes.c.account_id == account_id)
            .group_by(microvms.c.image_id)
        )
        with self._database.reading() as connection:
            return {image_id: Uses(count, last) for image_id, count, last in connection.execute(query)}

    def begin_build(self, build_id: str, recipe: Recipe) -> bool:
        """Store how a build is made; False when it has begun already."""
        where = (template_builds.c.id == build_id, template_builds.c.recipe.is_(None))
        with self._database.transaction() as connection:
            done = connection.execute(update(template_builds).where(*where).values(recipe=recipe.to_json()))
        return bool(done.rowcount)

    def set_version(self, build_id: str, image_id: str, version: str) -> None:
        """Store which version a build makes."""
        self._update(build_id, image_id=image_id, version=version)

    def fail_build(self, build_id: str, reason: str, step: str) -> None:
        """Store why a build makes no version, and at which step."""
        self._update(build_id, reason=reason, failed_step=step)

    def _update(self, build_id: str, **values: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(update(template_builds).where(template_builds.c.id == build_id).values(**values))

    # --- names

    def put_name(self, name: TemplateName) -> None:
        """Let a name lead to a version, before all that it led to earlier."""
        table, values = template_names, {slot: getattr(name, slot) for slot in TemplateName.__slots__}
        key = [column == values[column.name] for column in table.primary_key]
        with self._database.transaction() as connection:
            connection.execute(delete(table).where(*key))
            connection.execute(insert(table).values(values))

    def list_names(self, account_id: str, name: str, tag: str | None = None) -> list[TemplateName]:
        """Return where a name leads, newest first; without a tag, where all its tags lead.

        Args:
            account_id: whose it is.
            name: without a tag.
            tag: the tag.
        """
        table = template_names
        query = select(table).join(images, images.c.id == table.c.image_id)
        query = query.where(table.c.account_id == account_id, table.c.name == name)
        if tag is not None:
            query = query.where(table.c.tag == tag)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.assigned_at.desc())).all()
        return [TemplateName(**row._mapping) for row in rows]

    def names_of(self, image_id: str, version: str) -> list[TemplateName]:
        """Return the names that lead to a version, oldest first."""
        table = template_names
        query = select(table).where(table.c.image_id == image_id, table.c.version == version)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.assigned_at)).all()
        return [TemplateName(**row._mapping) for row in rows]

    def remove_tag(self, account_id: str, name: str, tag: str) -> bool:
        """Let a name lead nowhere; False when it did not lead anywhere."""
        table = template_names
        where = (table.c.account_id == account_id, table.c.name == name, table.c.tag == tag)
        with self._database.transaction() as connection:
            return bool(connection.execute(delete(table).where(*where)).rowcount)

    def remove_names_of(self, image_id: str, version: str) -> None:
        """Let no name lead to a version."""
        where = (template_names.c.image_id == image_id, template_names.c.version == version)
        with self._database.transaction() as connection:
            connection.execute(delete(template_names).where(*where))

    def forget_gone(self, before: datetime) -> None:
        """Remove the names of images that are gone, and the builds of such images that were asked for earlier."""
        known = select(images.c.id)
        old = template_builds.c.created_at < before
        with self._database.transaction() as connection:
            connection.execute(delete(template_names).where(template_names.c.image_id.not_in(known)))
            connection.execute(delete(template_builds).where(template_builds.c.image_id.not_in(known), old))
