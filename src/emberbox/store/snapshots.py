"""Queries about snapshots of microVMs, which are versions of their images."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, select

from emberbox.model.states import VersionState
from emberbox.store.database import Database
from emberbox.store.schema import checkpoints, images, versions


class Snapshot(NamedTuple):
    """A snapshot of a microVM: a version of an image."""

    image_name: str
    image_arn: str
    version: str
    microvm_id: str
    created_at: datetime
    image_id: str


class SnapshotStore:
    """The rows of snapshots.

    Args:
        database: the open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self, account_id: str, microvm_id: str | None = None) -> list[Snapshot]:
        """Return the snapshots that an account can launch, of one microVM or of all, oldest first."""
        version_of = and_(versions.c.image_id == checkpoints.c.image_id, versions.c.version == checkpoints.c.version)
        query = (
            select(
                images.c.name,
                images.c.arn,
                versions.c.version,
                checkpoints.c.microvm_id,
                versions.c.created_at,
                images.c.id,
            )
            .select_from(checkpoints)
            .join(versions, version_of)
            .join(images, images.c.id == checkpoints.c.image_id)
            .where(images.c.account_id == account_id, versions.c.state == VersionState.SUCCESSFUL)
            .order_by(versions.c.created_at, images.c.name, versions.c.version)
        )
        if microvm_id is not None:
            query = query.where(checkpoints.c.microvm_id == microvm_id)
        with self._database.reading() as connection:
            return [Snapshot(*row) for row in connection.execute(query)]
