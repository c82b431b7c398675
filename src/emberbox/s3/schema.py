"""The tables of the index: buckets, their documents, versions of objects, uploads in parts.

Keys are bytes, because S3 sorts them so.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

buckets = Table(
    "buckets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("account_id", Text, nullable=False, index=True),
    Column("region", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("versioning", Text, nullable=False, default=""),  # "", Enabled or Suspended
)

documents = Table(
    "documents",
    metadata,
    Column("bucket", Text, ForeignKey("buckets.name", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),  # the sub-resource: tagging, policy, ...
    Column("id", Text, primary_key=True),  # of a configuration among several; else ""
    Column("text", LargeBinary, nullable=False),  # as it was put
)

versions = Table(
    "versions",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),  # the later version has the higher one
    Column("bucket", Text, ForeignKey("buckets.name"), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("version_id", Text, nullable=False),  # "null" where the bucket had no versioning
    Column("is_latest", Boolean, nullable=False),
    Column("is_marker", Boolean, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),  # without quotes
    Column("modified_ms", BigInteger, nullable=False),
    Column("pieces", JSON, nullable=False),  # [[name of a file, its size], ...]: what the content is, in order
    Column("parts", JSON),  # [[number, size, checksum], ...] of an object that came in parts
    Column("headers", JSON, nullable=False),  # members of GetObject's answer: ContentType, CacheControl, ...
    Column("user_metadata", JSON, nullable=False),
    Column("tags", JSON, nullable=False),  # [[key, value], ...]
    Column("acl", Text, nullable=False),  # a canned ACL, or a document
    Column("checksum_algorithm", Text, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("checksum_type", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("versions_of_key", versions.c.bucket, versions.c.key, versions.c.sequence)
Index("latest_of_key", versions.c.bucket, versions.c.key, unique=True, sqlite_where=versions.c.is_latest)
Index("version_of_key", versions.c.bucket, versions.c.key, versions.c.version_id, unique=True)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("bucket", Text, ForeignKey("buckets.name"), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("initiated_ms", BigInteger, nullable=False),
    Column("initiator", Text, nullable=False),  # the ARN of who began it
    Column("headers", JSON, nullable=False),
    Column("user_metadata", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("acl", Text, nullable=False),
    Column("checksum_algorithm", Text, nullable=False),
    Column("checksum_type", Text, nullable=False),
)
Index("uploads_of_bucket", uploads.c.bucket, uploads.c.key, uploads.c.id)

parts = Table(
    "parts",
    metadata,
    Column("upload_id", Text, ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("etag", Text, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("pieces", JSON, nullable=False),
    Column("checksum", Text, nullable=False),
)
