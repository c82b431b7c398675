"""The index: what buckets there are, what is in them, and which files hold it. The rows are the truth.

Every change is one transaction. Files that it leaves without a row are removed when it is stored, never before.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from emberbox.s3 import schema
from emberbox.s3.errors import S3Error
from emberbox.s3.files import Files
from emberbox.store.database import Database

NULL: Final = "null"
ENABLED, SUSPENDED = "Enabled", "Suspended"

Pieces = list[tuple[str, int]]
"""Files that are a content one after the other: their names and sizes."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; `versioning` is empty, Enabled or Suspended."""

    name: str
    account_id: str
    region: str
    created_ms: int
    versioning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, or a delete marker; see the columns of the table."""

    bucket: str
    key: bytes
    version_id: str = NULL
    is_latest: bool = True
    is_marker: bool = False
    size: int = 0
    etag: str = ""
    modified_ms: int
    pieces: Pieces = field(default_factory=list)
    parts: list[tuple[int, int, str]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    tags: list[tuple[str, str]] = field(default_factory=list)
    acl: str = "private"
    checksum_algorithm: str = ""
    checksum: str = ""
    checksum_type: str = ""
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload in parts that is not complete."""

    id: str
    bucket: str
    key: bytes
    initiated_ms: int
    initiator: str
    headers: Mapping[str, str]
    user_metadata: Mapping[str, str]
    tags: list[tuple[str, str]]
    acl: str
    checksum_algorithm: str
    checksum_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an upload."""

    upload_id: str
    number: int
    size: int
    etag: str
    modified_ms: int
    pieces: Pieces
    checksum: str


class Index:
    """The rows of one store.

    Args:
        path: the SQLite file; made when missing.
        files: where the contents are.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._database = Database(f"sqlite:///{path}", schema.metadata)
        self._files = files
        self._turn = threading.Lock()  # SQLite lets those who write wait without any order

    @contextlib.contextmanager
    def reading(self) -> Iterator[Rows]:
        """Ask; waits for nobody."""
        with self._database.reading() as connection:
            yield Rows(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Rows]:
        """Change: all of it is stored, or nothing. One at a time; the block should be short."""
        with self._turn, self._database.transaction() as connection:
            rows = Rows(connection)
            yield rows
        self._files.remove(rows.released)

    def close(self) -> None:
        """Close it."""
        self._database.close()


class Rows:
    """The queries, in one transaction.

    Attributes:
        released: files that no row names any more once this is stored.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.released: list[str] = []

    # --- buckets and their documents

    def bucket(self, name: str) -> Bucket | None:
        """Return a bucket."""
        return self._one(Bucket, select(schema.buckets).where(schema.buckets.c.name == name))

    def buckets(self, account_id: str, prefix: str, after: str, limit: int) -> list[Bucket]:
        """Return an account's buckets by name."""
        table = schema.buckets.c
        query = select(schema.buckets).where(table.account_id == account_id, table.name > after)
        query = query.where(func.substr(table.name, 1, len(prefix)) == prefix).order_by(table.name).limit(limit)
        return self._all(Bucket, query)

    def add_bucket(self, bucket: Bucket) -> None:
        """Store a bucket that is not there yet."""
        self._connection.execute(insert(schema.buckets).values(_values(bucket)))

    def set_versioning(self, bucket: str, status: str) -> None:
        """Change how a bucket keeps versions."""
        query = update(schema.buckets).where(schema.buckets.c.name == bucket).values(versioning=status)
        self._connection.execute(query)

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket, its documents and its unfinished uploads.

        Raises:
            S3Error: BucketNotEmpty.
        """
        table = schema.versions
        if self._connection.execute(select(table.c.sequence).where(table.c.bucket == bucket).limit(1)).first():
            raise S3Error("BucketNotEmpty", BucketName=bucket)
        for row in self._connection.execute(select(schema.uploads.c.id).where(schema.uploads.c.bucket == bucket)).all():
            self.remove_upload(row.id)
        self._connection.execute(delete(schema.buckets).where(schema.buckets.c.name == bucket))

    def document(self, bucket: str, kind: str, name: str = "") -> bytes | None:
        """Return a bucket's document as it was put."""
        table = schema.documents.c
        query = select(table.text).where(table.bucket == bucket, table.kind == kind, table.id == name)
        return self._connection.execute(query).scalar()

    def documents(self, bucket: str, kind: str) -> list[bytes]:
        """Return all documents of a kind, by their ids."""
        table = schema.documents.c
        query = select(table.text).where(table.bucket == bucket, table.kind == kind).order_by(table.id)
        return list(self._connection.execute(query).scalars())

    def put_document(self, bucket: str, kind: str, text: bytes, name: str = "") -> None:
        """Store a document in place of the one before."""
        self.remove_document(bucket, kind, name)
        values = {"bucket": bucket, "kind": kind, "id": name, "text": text}
        self._connection.execute(insert(schema.documents).values(values))

    def remove_document(self, bucket: str, kind: str, name: str = "") -> None:
        """Remove a document, and nothing else."""
        table = schema.documents.c
        query = delete(schema.documents).where(table.bucket == bucket, table.kind == kind, table.id == name)
        self._connection.execute(query)

    # --- versions of objects

    def latest(self, bucket: str, key: bytes) -> Version | None:
        """Return the latest version of a key, which may be a delete marker."""
        table = schema.versions.c
        query = select(schema.versions).where(table.bucket == bucket, table.key == key, table.is_latest)
        return self._one(Version, query)

    def version(self, bucket: str, key: bytes, version_id: str) -> Version | None:
        """Return a version of a key."""
        table = schema.versions.c
        query = select(schema.versions).where(table.bucket == bucket, table.key == key, table.version_id == version_id)
        return self._one(Version, query)

    def add(self, version: Version) -> str:
        """Store a new latest version; its id follows from the bucket's versioning and is returned.

        Raises:
            S3Error: NoSuchBucket.
        """
        bucket = self.bucket(version.bucket)
        if bucket is None:
            raise S3Error("NoSuchBucket", BucketName=version.bucket)
        version_id = secrets.token_urlsafe(24) if bucket.versioning == ENABLED else NULL
        if version_id == NULL and (old := self.version(version.bucket, version.key, NULL)):
            self._drop(old)
        table = schema.versions.c
        self._connection.execute(
            update(schema.versions)
            .where(table.bucket == version.bucket, table.key == version.key, table.is_latest)
            .values(is_latest=False)
        )
        values = _values(version) | {"version_id": version_id, "is_latest": True}
        del values["sequence"]
        self._connection.execute(insert(schema.versions).values(values))
        return version_id

    def remove(self, version: Version) -> None:
        """Remove a version for good; the one before it becomes the latest."""
        self._drop(version)
        table = schema.versions.c
        same = and_(table.bucket == version.bucket, table.key == version.key)
        if version.is_latest:
            last = select(func.max(table.sequence)).where(same).scalar_subquery()
            self._connection.execute(update(schema.versions).where(table.sequence == last).values(is_latest=True))

    def _drop(self, version: Version) -> None:
        query = delete(schema.versions).where(schema.versions.c.sequence == version.sequence)
        self._connection.execute(query)
        self.released += [name for name, _ in version.pieces]

    def change(self, version: Version, **values: Any) -> None:
        """Change a version's tags or ACL."""
        query = update(schema.versions).where(schema.versions.c.sequence == version.sequence).values(values)
        self._connection.execute(query)

    def list_latest(self, bucket: str, start: bytes, end: bytes | None, limit: int) -> list[Version]:
        """Return the objects of a bucket from a key on, by key."""
        table = schema.versions.c
        query = select(schema.versions).where(table.bucket == bucket, table.is_latest, table.key >= start)
        query = query.where(table.is_marker.is_(False)).order_by(table.key).limit(limit)
        return self._all(Version, query if end is None else query.where(table.key < end))

    def list_versions(
        self, bucket: str, start: bytes, below: int | None, end: bytes | None, limit: int
    ) -> list[Version]:
        """Return the versions of a bucket by key, latest first; of the first key only those before a sequence."""
        table = schema.versions.c
        query = select(schema.versions).where(table.bucket == bucket, table.key >= start)
        if below is not None:
            query = query.where(or_(table.key > start, table.sequence < below))
        if end is not None:
            query = query.where(table.key < end)
        return self._all(Version, query.order_by(table.key, table.sequence.desc()).limit(limit))

    # --- uploads in parts

    def add_upload(self, upload: Upload) -> None:
        """Store a new upload.

        Raises:
            S3Error: NoSuchBucket.
        """
        if self.bucket(upload.bucket) is None:
            raise S3Error("NoSuchBucket", BucketName=upload.bucket)
        self._connection.execute(insert(schema.uploads).values(_values(upload)))

    def upload(self, bucket: str, key: bytes, upload_id: str) -> Upload:
        """Return an upload.

        Raises:
            S3Error: NoSuchUpload.
        """
        table = schema.uploads.c
        query = select(schema.uploads).where(table.id == upload_id, table.bucket == bucket, table.key == key)
        found = self._one(Upload, query)
        if found is None:
            raise S3Error("NoSuchUpload", UploadId=upload_id[:128])
        return found

    def list_uploads(self, bucket: str, start: bytes, after: str | None, end: bytes | None, limit: int) -> list[Upload]:
        """Return the uploads of a bucket by key and id; of the first key only those after an id."""
        table = schema.uploads.c
        query = select(schema.uploads).where(table.bucket == bucket, table.key >= start)
        if after is not None:
            query = query.where(or_(table.key > start, table.id > after))
        if end is not None:
            query = query.where(table.key < end)
        return self._all(Upload, query.order_by(table.key, table.id).limit(limit))

    def remove_upload(self, upload_id: str, kept: Iterable[int] = ()) -> None:
        """Remove an upload with its parts; the files of the parts with these numbers stay."""
        numbers = set(kept)
        for part in self.parts(upload_id, 0, None):
            if part.number not in numbers:
                self.released += [name for name, _ in part.pieces]
        self._connection.execute(delete(schema.parts).where(schema.parts.c.upload_id == upload_id))
        self._connection.execute(delete(schema.uploads).where(schema.uploads.c.id == upload_id))

    def put_part(self, part: Part) -> None:
        """Store a part in place of the one of the same number."""
        table = schema.parts.c
        same = and_(table.upload_id == part.upload_id, table.number == part.number)
        old = self._one(Part, select(schema.parts).where(same))
        if old is not None:
            self.released += [name for name, _ in old.pieces]
            self._connection.execute(delete(schema.parts).where(same))
        self._connection.execute(insert(schema.parts).values(_values(part)))

    def parts(self, upload_id: str, after: int, limit: int | None) -> list[Part]:
        """Return the parts of an upload after a number."""
        table = schema.parts.c
        query = select(schema.parts).where(table.upload_id == upload_id, table.number > after).order_by(table.number)
        return self._all(Part, query if limit is None else query.limit(limit))

    # --- everything

    def file_names(self) -> set[str]:
        """Return the names of all files that hold something."""
        found: set[str] = set()
        for column in (schema.versions.c.pieces, schema.parts.c.pieces):
            for pieces in self._connection.execute(select(column)).scalars():
                found.update(name for name, _ in pieces)
        return found

    def _one(self, kind: type[_T], query: Select[Any]) -> _T | None:
        row = self._connection.execute(query).first()
        return None if row is None else _record(kind, row)

    def _all(self, kind: type[_T], query: Select[Any]) -> list[_T]:
        return [_record(kind, row) for row in self._connection.execute(query)]


def _values(record: Any) -> dict[str, Any]:  # a dataclass of this module
    return {one.name: getattr(record, one.name) for one in fields(record)}


def _record(kind: type[_T], row: Row[Any]) -> _T:
    values = dict(row._mapping)
    for name in ("pieces", "tags", "parts"):
        if values.get(name) is not None:
            values[name] = [tuple(one) for one in values[name]]
    return kind(**values)
