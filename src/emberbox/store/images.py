"""Queries about images, their versions and builds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from emberbox.model.arns import image_arn
from emberbox.model.records import Build, Image, ImageVersion
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import (
    BUILD_TRANSITIONS,
    IMAGE_TRANSITIONS,
    LAUNCHABLE_IMAGE_STATES,
    VERSION_TRANSITIONS,
    BuildState,
    ImageState,
    VersionState,
    VersionStatus,
)
from emberbox.store.changes import Change, Kind
from emberbox.store.client_tokens import ClientToken, insert_token
from emberbox.store.database import Database
from emberbox.store.image_requests import read_request, read_sizes, write_request, write_sizes
from emberbox.store.schema import builds, checkpoints, images, versions

Place = tuple[datetime, str]
"""Where a page of a list ended: creation time and id."""


def _image(row: Row[Any]) -> Image:
    values = dict(row._mapping)
    return Image(**values | {"state": ImageState(values["state"])})


def _version(row: Row[Any]) -> ImageVersion:
    values = dict(row._mapping)
    state, status = VersionState(values["state"]), VersionStatus(values["status"])
    return ImageVersion(**values | {"state": state, "status": status, "request": read_request(values["request"])})


def _build(row: Row[Any]) -> Build:
    values = dict(row._mapping)
    return Build(**values | {"state": BuildState(values["state"]), "sizes": read_sizes(values["sizes"])})


def _columns(record: Image | ImageVersion | Build, table: Table) -> dict[str, Any]:  # Any: each has a type of its own
    return {column.name: getattr(record, column.name) for column in table.columns}


def _insert_version(connection: Connection, version: ImageVersion, build: Build) -> None:
    """Insert a version with its build."""
    row = _columns(version, versions) | {"request": write_request(version.request)}
    connection.execute(insert(versions).values(row))
    connection.execute(insert(builds).values(_columns(build, builds) | {"sizes": write_sizes(build.sizes)}))


def _move_image(connection: Connection, image_id: str, state: ImageState, now: datetime) -> bool:
    sources = [source for source, targets in IMAGE_TRANSITIONS.items() if state in targets]
    statement = update(images).where(images.c.id == image_id, images.c.state.in_(sources))
    return connection.execute(statement.values(state=state, updated_at=now)).rowcount == 1


def _move_version(connection: Connection, image_id: str, version: str, state: VersionState, now: datetime) -> bool:
    """Move a version on; a successful one becomes ACTIVE by itself, any other is INACTIVE."""
    sources = [source for source, targets in VERSION_TRANSITIONS.items() if state in targets]
    status = VersionStatus.ACTIVE if state is VersionState.SUCCESSFUL else VersionStatus.INACTIVE
    statement = update(versions).where(
        versions.c.image_id == image_id, versions.c.version == version, versions.c.state.in_(sources)
    )
    return connection.execute(statement.values(state=state, status=status, updated_at=now)).rowcount == 1


def _move_build(connection: Connection, build_id: str, state: BuildState, **columns: Any) -> bool:
    sources = [source for source, targets in BUILD_TRANSITIONS.items() if state in targets]
    statement = update(builds).where(builds.c.id == build_id, builds.c.state.in_(sources))
    return connection.execute(statement.values(state=state, **columns)).rowcount == 1


def _refresh_latest(connection: Connection, image_id: str) -> None:
    """Set an image's latest active and latest failed version from its versions."""
    found = [_version(row) for row in connection.execute(select(versions).where(versions.c.image_id == image_id))]
    active = [v.version for v in found if v.status is VersionStatus.ACTIVE and v.state is VersionState.SUCCESSFUL]
    failed = [v.version for v in found if v.state is VersionState.FAILED]
    latest = {
        "latest_active_version": max(active, key=float, default=None),
        "latest_failed_version": max(failed, key=float, default=None),
    }
    connection.execute(update(images).where(images.c.id == image_id).values(**latest))


class ImageStore:
    """Images, versions and builds in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, image: Image, version: ImageVersion, build: Build, token: ClientToken | None) -> bool:
        """Store a new image with its first version and build; False when the name or the token is taken."""
        try:
            with self._database.transaction(Change(Kind.IMAGE, image.id)) as connection:
                if token is not None:
                    insert_token(connection, token)
                connection.execute(insert(images).values(_columns(image, images)))
                _insert_version(connection, version, build)
        except IntegrityError:
            return False
        return True

    def find(self, arn: str) -> Image | None:
        """Return the image of an ARN."""
        with self._database.reading() as connection:
            row = connection.execute(select(images).where(images.c.arn == arn)).first()
        return None if row is None else _image(row)

    def find_named(self, account_id: str, name: str, region: str) -> Image | None:
        """Return an account's image of a name.

        Args:
            account_id: the account.
            name: the name.
            region: the region served; a home that served another one before has that one's images too.
        """
        return self.find(image_arn(region, account_id, name))

    def find_by_id(self, image_id: str) -> Image | None:
        """Return the image of an id."""
        with self._database.reading() as connection:
            row = connection.execute(select(images).where(images.c.id == image_id)).first()
        return None if row is None else _image(row)

    def tags_of(self, image_id: str) -> Mapping[str, str]:
        """Return the tags of an image; none when it is gone."""
        image = self.find_by_id(image_id)
        return {} if image is None else image.tags

    def count(self, account_id: str) -> int:
        """Return how many images an account has."""
        query = select(func.count()).select_from(images).where(images.c.account_id == account_id)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def count_unfinished_builds(self, account_id: str) -> int:
        """Return how many builds of an account run or wait."""
        query = select(func.count()).select_from(builds.join(images, builds.c.image_id == images.c.id))
        query = query.where(
            images.c.account_id == account_id, builds.c.state.in_([BuildState.PENDING, BuildState.IN_PROGRESS])
        )
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def list_page(self, account_id: str, limit: int, after: Place | None) -> list[Image]:
        """Return images, newest first, after a place."""
        query = select(images).where(images.c.account_id == account_id)
        if after is not None:
            moment, last = after
            older = images.c.created_at < moment
            query = query.where(or_(older, and_(images.c.created_at == moment, images.c.id < last)))
        query = query.order_by(images.c.created_at.desc(), images.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_image(row) for row in connection.execute(query)]

    def change_state(self, image_id: str, state: ImageState, now: datetime) -> bool:
        """Move an image to a state; False when the transition table does not allow it from where it is."""
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            return _move_image(connection, image_id, state, now)

    def remove(self, image_id: str) -> None:
        """Remove an image with its versions and builds."""
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            for table in (builds, checkpoints, versions):
                connection.execute(delete(table).where(table.c.image_id == image_id))
            connection.execute(delete(images).where(images.c.id == image_id))

    def list_in_state(self, *states: ImageState) -> list[Image]:
        """Return all images in one of the states."""
        with self._database.reading() as connection:
            return [_image(row) for row in connection.execute(select(images).where(images.c.state.in_(states)))]

    def find_version(self, image_id: str, version: str) -> ImageVersion | None:
        """Return one version."""
        query = select(versions).where(versions.c.image_id == image_id, versions.c.version == version)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _version(row)

    def is_launchable(self, image_id: str, version: str) -> bool:
        """Say whether a version may be launched now."""
        image, found = self.find_by_id(image_id), self.find_version(image_id, version)
        if image is None or found is None or image.state not in LAUNCHABLE_IMAGE_STATES:
            return False
        return found.state is VersionState.SUCCESSFUL and found.status is VersionStatus.ACTIVE

    def list_versions(self, image_id: str) -> list[ImageVersion]:
        """Return all versions, newest first."""
        query = select(versions).where(versions.c.image_id == image_id)
        with self._database.reading() as connection:
            found = [_version(row) for row in connection.execute(query)]
        return sorted(found, key=lambda version: float(version.version), reverse=True)

    def add_version(
        self, version: ImageVersion, build: Build, token: ClientToken | None, taken_from: str | None = None
    ) -> bool:
        """Store a new version with its build and make the image UPDATING; False when the image is busy.

        Args:
            version: the version.
            build: its build.
            token: what asked for it.
            taken_from: the microVM that it is a snapshot of; None where it is built from an artifact.
        """
        try:
            with self._database.transaction(Change(Kind.IMAGE, version.image_id)) as connection:
                if not _move_image(connection, version.image_id, ImageState.UPDATING, version.created_at):
                    return False
                if token is not None:
                    insert_token(connection, token)
                _insert_version(connection, version, build)
                if taken_from is not None:
                    values = {"image_id": version.image_id, "version": version.version, "microvm_id": taken_from}
                    connection.execute(insert(checkpoints).values(values))
        except IntegrityError:
            return False
        return True

    def list_taken_from(self, microvm_id: str) -> list[str]:
        """Return the versions that are snapshots of a microVM, oldest first."""
        query = select(checkpoints.c.version).where(checkpoints.c.microvm_id == microvm_id)
        with self._database.reading() as connection:
            return sorted(connection.execute(query).scalars(), key=float)

    def is_checkpoint(self, image_id: str, version: str) -> bool:
        """Say whether a version is a snapshot of a microVM."""
        where = (checkpoints.c.image_id == image_id, checkpoints.c.version == version)
        with self._database.reading() as connection:
            return connection.execute(select(checkpoints).where(*where)).first() is not None

    def begin_to_delete_version(self, image_id: str, version: str, now: datetime) -> bool:
        """Make a version DELETING and its image UPDATING; False when the image is busy."""
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            if not _move_image(connection, image_id, ImageState.UPDATING, now):
                return False
            _move_version(connection, image_id, version, VersionState.DELETING, now)
            _refresh_latest(connection, image_id)
            return True

    def finish_deleting_version(self, image_id: str, version: str, now: datetime, *, removed: bool) -> None:
        """Remove a version with its builds, or say that it could not be removed; its image is UPDATED again."""
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            if removed:
                for table in (builds, checkpoints, versions):
                    where = (table.c.image_id == image_id, table.c.version == version)
                    connection.execute(delete(table).where(*where))
            else:
                _move_version(connection, image_id, version, VersionState.DELETE_FAILED, now)
            _refresh_latest(connection, image_id)
            _move_image(connection, image_id, ImageState.UPDATED, now)

    def set_version_status(self, image_id: str, version: str, status: VersionStatus, now: datetime) -> None:
        """Allow or refuse launches of a version; the image's latest active one follows."""
        statement = update(versions).where(versions.c.image_id == image_id, versions.c.version == version)
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            connection.execute(statement.values(status=status, updated_at=now))
            _refresh_latest(connection, image_id)

    def set_engine(self, image_id: str, version: str, engine: str) -> None:
        """Note what a version is built for, where its Dockerfile has chosen that.

        Raises:
            HostError: the disk is full.
        """
        where = (versions.c.image_id == image_id, versions.c.version == version)
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            stored = connection.execute(select(versions.c.request).where(*where)).scalar_one()
            connection.execute(update(versions).where(*where).values(request={**stored, "engine": engine}))

    def set_tags(self, image_id: str, tags: Mapping[str, str]) -> None:
        """Store the whole set of an image's tags."""
        with self._database.transaction(Change(Kind.IMAGE, image_id)) as connection:
            connection.execute(update(images).where(images.c.id == image_id).values(tags=dict(tags)))

    def list_builds(self, image_id: str, version: str) -> list[Build]:
        """Return the builds of a version."""
        query = select(builds).where(builds.c.image_id == image_id, builds.c.version == version)
        with self._database.reading() as connection:
            return [_build(row) for row in connection.execute(query.order_by(builds.c.created_at, builds.c.id))]

    def begin_build(self, build: Build, now: datetime) -> None:
        """Say that a build is in progress; one that a restart begins again is so already."""
        with self._database.transaction(Change(Kind.IMAGE, build.image_id)) as connection:
            _move_build(connection, build.id, BuildState.IN_PROGRESS)
            _move_version(connection, build.image_id, build.version, VersionState.IN_PROGRESS, now)

    def finish_build(
        self, build: Build, now: datetime, *, reason: str | None = None, sizes: SnapshotSizes | None = None
    ) -> None:
        """Settle a build, its version and its image together.

        Args:
            build: the build.
            now: the present.
            reason: why it failed; None for a success.
            sizes: the sizes of the snapshot, for a success.
        """
        failed = reason is not None
        state = BuildState.FAILED if failed else BuildState.SUCCESSFUL
        first, later = (
            (ImageState.CREATE_FAILED, ImageState.UPDATE_FAILED) if failed else (ImageState.CREATED, ImageState.UPDATED)
        )
        with self._database.transaction(Change(Kind.IMAGE, build.image_id)) as connection:
            if not _move_build(connection, build.id, state, state_reason=reason, sizes=write_sizes(sizes)):
                return
            _move_version(connection, build.image_id, build.version, VersionState(state), now)
            _refresh_latest(connection, build.image_id)
            if not _move_image(connection, build.image_id, first, now):
                _move_image(connection, build.image_id, later, now)
