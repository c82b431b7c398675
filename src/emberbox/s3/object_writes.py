"""Writing objects: from a request, and from another object."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from emberbox.s3.call import Call, Handler, Reply, moment, now_ms
from emberbox.s3.checksums import DEFAULT, member, new_hash
from emberbox.s3.checksums import encode as encode_checksum
from emberbox.s3.conditions import check_copy, check_write
from emberbox.s3.described import PLACEMENT, describe
from emberbox.s3.errors import S3Error
from emberbox.s3.files import Files
from emberbox.s3.index import Bucket, Index, Pieces, Version
from emberbox.s3.object_reads import ObjectReads

FULL_OBJECT, COMPOSITE = "FULL_OBJECT", "COMPOSITE"
_ECHOED: Final = PLACEMENT[2:]


class ObjectWrites:
    """Answers the operations that write.

    Args:
        index: the rows.
        files: the contents.
        reads: lends the sources of copies.
    """

    def __init__(self, index: Index, files: Files, reads: ObjectReads) -> None:
        self._index = index
        self._files = files
        self._reads = reads

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "PutObject": self.put,
            "CopyObject": self.copy,
        }

    def put(self, call: Call) -> Reply:
        """PutObject."""
        described = describe(call)
        with self._index.reading() as rows:  # again when it is stored; this spares the client the upload
            check_write(call.parameters, rows.latest(call.bucket.name, call.key))
        with self._files.writing() as new:
            digests = call.write_body(new)
            new.finish()
            algorithm = digests.algorithm or DEFAULT
            version = Version(
                bucket=call.bucket.name,
                key=call.key,
                size=new.size,
                etag=digests.etag,
                modified_ms=now_ms(),
                pieces=[(new.name, new.size)],
                checksum_algorithm=algorithm,
                checksum=digests.checksum(algorithm),
                checksum_type=FULL_OBJECT,
                **described,
            )
            return Reply(*self._store(version, call.parameters, call.bucket))

    def _store(
        self, version: Version, parameters: Mapping[str, Any], bucket: Bucket
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Store a new version whose files are on the disk; return members and headers of the answer.

        Raises:
            S3Error: a condition of the write does not hold.
        """
        with self._index.writing() as rows:
            check_write(parameters, rows.latest(version.bucket, version.key))
            version_id = rows.add(version)
        members = {
            "ETag": f'"{version.etag}"',
            "VersionId": version_id if bucket.versioning else None,
            member(version.checksum_algorithm): version.checksum,
            "ChecksumType": version.checksum_type,
        }
        return members, {name: version.headers[name] for name in _ECHOED if name in version.headers}

    def copy(self, call: Call) -> Reply:
        """CopyObject: the copy shares the bytes on the disk, and nothing else."""
        asked = call.parameters
        described = describe(call)
        with self._reads.source(call) as (source, source_bucket):
            check_copy(asked, source)
            directive, tagging = asked.get("MetadataDirective", "COPY"), asked.get("TaggingDirective", "COPY")
            if {directive, tagging} - {"COPY", "REPLACE"}:
                raise S3Error("InvalidArgument", "Unknown metadata directive.", ArgumentName="x-amz-metadata-directive")
            changes = directive == "REPLACE" or any(name in described["headers"] for name in PLACEMENT)
            same = (source.bucket, source.key) == (call.bucket.name, call.key) and source.is_latest
            if same and not changes and "ChecksumAlgorithm" not in asked:
                raise S3Error(
                    "InvalidRequest",
                    "This copy request is illegal because it is trying to copy an object to itself without changing "
                    "the object's metadata, storage class, website redirect location or encryption attributes.",
                )
            if directive == "COPY":
                kept = {name: value for name, value in source.headers.items() if name not in PLACEMENT}
                placed = {name: value for name, value in described["headers"].items() if name in PLACEMENT}
                described |= {"headers": kept | placed, "user_metadata": source.user_metadata}
            if tagging == "COPY":
                described["tags"] = source.tags
            checksum = self._checksum_of_copy(source, asked.get("ChecksumAlgorithm"))
            with self._linked(source.pieces) as pieces:
                modified = now_ms()
                version = Version(
                    bucket=call.bucket.name,
                    key=call.key,
                    size=source.size,
                    etag=source.etag,
                    modified_ms=modified,
                    pieces=pieces,
                    parts=source.parts,
                    **checksum,
                    **described,
                )
                stored, headers = self._store(version, asked, call.bucket)
        result = {key: value for key, value in stored.items() if key != "VersionId"}
        members = {
            "CopyObjectResult": result | {"LastModified": moment(modified)},
            "VersionId": stored["VersionId"],
            "CopySourceVersionId": source.version_id if source_bucket.versioning else None,
        }
        return Reply(members, headers)

    def _checksum_of_copy(self, source: Version, wanted: str | None) -> dict[str, Any]:
        algorithm = wanted or source.checksum_algorithm or DEFAULT
        if algorithm == source.checksum_algorithm and source.checksum:
            kind, value = source.checksum_type, source.checksum
        else:
            running = new_hash(algorithm)
            for data in self._reads.read(source, 0, source.size):
                running.update(data)
            kind, value = FULL_OBJECT, encode_checksum(running.digest())
        return {"checksum_algorithm": algorithm, "checksum": value, "checksum_type": kind}

    @contextlib.contextmanager
    def _linked(self, pieces: Pieces) -> Iterator[Pieces]:
        made: Pieces = []
        try:
            for name, size in pieces:
                made.append((self._files.link(name), size))
            yield made
        except BaseException:
            self._files.remove([name for name, _ in made])
            raise
