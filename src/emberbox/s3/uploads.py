"""Uploads in parts: each part is a file; the object is the list of them, so completing copies nothing."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from emberbox.s3.call import OBJECT_BYTES_MAX, Call, Handler, Reply, moment, now_ms, owner
from emberbox.s3.checksums import ALGORITHMS, DEFAULT, LINEAR, Digests, combine, compose, member
from emberbox.s3.conditions import check_copy, check_write
from emberbox.s3.described import describe
from emberbox.s3.errors import S3Error
from emberbox.s3.files import Files
from emberbox.s3.index import Index, Part, Upload, Version
from emberbox.s3.object_reads import ObjectReads
from emberbox.s3.object_writes import COMPOSITE, FULL_OBJECT
from emberbox.s3.parse import parse_document, payload_member

PARTS_MAX: Final = 10_000
PART_BYTES_MIN: Final = 5 << 20
_PAGE: Final = 1000
_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})")


class Uploads:
    """Answers the operations.

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
            "CreateMultipartUpload": self.create,
            "UploadPart": self.put_part,
            "UploadPartCopy": self.copy_part,
            "ListParts": self.list_parts,
            "CompleteMultipartUpload": self.complete,
            "AbortMultipartUpload": self.abort,
        }

    def create(self, call: Call) -> Reply:
        """CreateMultipartUpload."""
        stated = call.parameters.get("ChecksumAlgorithm")
        algorithm = stated or DEFAULT
        if algorithm not in ALGORITHMS:
            raise S3Error("InvalidRequest", f"Checksum algorithm provided is unsupported: {algorithm[:32]}")
        kind = call.parameters.get("ChecksumType") or (FULL_OBJECT if algorithm == DEFAULT else COMPOSITE)
        is_possible = algorithm in LINEAR if kind == FULL_OBJECT else algorithm != DEFAULT
        if kind not in (FULL_OBJECT, COMPOSITE) or not is_possible:
            raise S3Error(
                "InvalidRequest",
                f"The {kind[:32]} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
            )
        upload = Upload(
            id=secrets.token_urlsafe(48),
            bucket=call.bucket.name,
            key=call.key,
            initiated_ms=now_ms(),
            initiator=call.caller.principal_arn,
            checksum_algorithm=algorithm,
            checksum_type=kind,
            **describe(call),
        )
        with self._index.writing() as rows:
            rows.add_upload(upload)
        members = {"Bucket": upload.bucket, "Key": upload.key.decode(), "UploadId": upload.id}
        return Reply(members | {"ChecksumAlgorithm": stated, "ChecksumType": kind if stated else None})

    def put_part(self, call: Call) -> Reply:
        """UploadPart."""
        upload, number = self._find(call), _part_number(call)
        with self._files.writing() as new:
            digests = call.write_body(new, upload.checksum_algorithm)
            new.finish()
            self._store(upload, number, digests, [(new.name, new.size)])
        algorithm = digests.algorithm or upload.checksum_algorithm
        return Reply({"ETag": f'"{digests.etag}"', member(algorithm): digests.checksum(algorithm)})

    def copy_part(self, call: Call) -> Reply:
        """UploadPartCopy: of a whole object, or of a range."""
        upload, number = self._find(call), _part_number(call)
        with self._reads.source(call) as (source, source_bucket), self._files.writing() as new:
            check_copy(call.parameters, source)
            offset, size = _source_range(call.parameters.get("CopySourceRange"), source)
            digests = Digests({}, None, etag=True, also=upload.checksum_algorithm)
            for data in self._reads.read(source, offset, size):
                digests.update(data)
                new.write(data)
            digests.check({})
            new.finish()
            modified = self._store(upload, number, digests, [(new.name, new.size)])
        name = member(upload.checksum_algorithm)
        result = {"ETag": f'"{digests.etag}"', "LastModified": moment(modified)}
        result[name] = digests.checksum(upload.checksum_algorithm)
        shown = source.version_id if source_bucket.versioning else None
        return Reply({"CopyPartResult": result, "CopySourceVersionId": shown})

    def _find(self, call: Call) -> Upload:
        with self._index.reading() as rows:
            return rows.upload(call.bucket.name, call.key, call.parameters["UploadId"])

    def _store(self, upload: Upload, number: int, digests: Digests, pieces: list[tuple[str, int]]) -> int:
        part = Part(
            upload_id=upload.id,
            number=number,
            size=digests.size,
            etag=digests.etag,
            modified_ms=now_ms(),
            pieces=pieces,
            checksum=digests.checksum(upload.checksum_algorithm),
        )
        with self._index.writing() as rows:
            rows.upload(upload.bucket, upload.key, upload.id)  # it may be complete, or aborted, by now
            rows.put_part(part)
        return part.modified_ms

    def list_parts(self, call: Call) -> Reply:
        """ListParts."""
        asked = call.parameters
        after, most = asked.get("PartNumberMarker", 0), min(max(asked.get("MaxParts", _PAGE), 0), _PAGE)
        with self._index.reading() as rows:
            upload = rows.upload(call.bucket.name, call.key, asked["UploadId"])
            found = rows.parts(upload.id, after, most + 1)
        shown = found[:most]
        name = member(upload.checksum_algorithm)
        members = {
            "Bucket": upload.bucket,
            "Key": upload.key.decode(),
            "UploadId": upload.id,
            "PartNumberMarker": after,
            "NextPartNumberMarker": shown[-1].number if shown else 0,
            "MaxParts": most,
            "IsTruncated": len(found) > most > 0,
            "Parts": [
                {
                    "PartNumber": part.number,
                    "LastModified": moment(part.modified_ms),
                    "ETag": f'"{part.etag}"',
                    "Size": part.size,
                    name: part.checksum,
                }
                for part in shown
            ],
            "Initiator": {"ID": upload.initiator, "DisplayName": upload.initiator},
            "Owner": owner(call.bucket.account_id),
            "StorageClass": upload.headers.get("x-amz-storage-class", "STANDARD"),
            "ChecksumAlgorithm": upload.checksum_algorithm,
            "ChecksumType": upload.checksum_type,
        }
        return Reply(members)

    def abort(self, call: Call) -> Reply:
        """AbortMultipartUpload."""
        with self._index.writing() as rows:
            rows.remove_upload(rows.upload(call.bucket.name, call.key, call.parameters["UploadId"]).id)
        return Reply()

    def complete(self, call: Call) -> Reply:
        """CompleteMultipartUpload: the parts become the object, all at once."""
        found = payload_member(call.model)
        assert found is not None
        listed = parse_document(found[1], call.read_body(checksums=False)).get("Parts") or []
        if not listed or any("PartNumber" not in one or "ETag" not in one for one in listed):
            raise S3Error("MalformedXML")
        with self._index.writing() as rows:
            upload = rows.upload(call.bucket.name, call.key, call.parameters["UploadId"])
            chosen = _choose(listed, {part.number: part for part in rows.parts(upload.id, 0, None)}, upload)
            version = _assemble(upload, chosen)
            _check_whole(call.parameters, version)
            check_write(call.parameters, rows.latest(upload.bucket, upload.key))
            rows.remove_upload(upload.id, [part.number for part in chosen])
            version_id = rows.add(version)
        members = {
            "Location": f"http://{call.request.headers.get('host', '')}/{upload.bucket}/{upload.key.decode()}",
            "Bucket": upload.bucket,
            "Key": upload.key.decode(),
            "ETag": f'"{version.etag}"',
            "VersionId": version_id if call.bucket.versioning else None,
            member(version.checksum_algorithm): version.checksum,
            "ChecksumType": version.checksum_type,
        }
        return Reply(members)


def _part_number(call: Call) -> int:
    number: int = call.parameters["PartNumber"]
    if not 1 <= number <= PARTS_MAX:
        raise S3Error(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=str(number)[:32],
        )
    return number


def _source_range(text: str | None, source: Version) -> tuple[int, int]:
    if text is None:
        offset, size = 0, source.size
    else:
        found = _RANGE.fullmatch(text.strip())
        if found is None or not int(found[1]) <= int(found[2]) < source.size:
            raise S3Error(
                "InvalidArgument",
                f"Range specified is not valid for source object of size: {source.size}",
                ArgumentName="x-amz-copy-source-range",
            )
        offset, size = int(found[1]), int(found[2]) - int(found[1]) + 1
    if size > OBJECT_BYTES_MAX:
        raise S3Error("InvalidRequest", "The specified copy source is larger than 5 GiB.")
    return offset, size


def _choose(listed: Sequence[Mapping[str, Any]], stored: Mapping[int, Part], upload: Upload) -> list[Part]:
    """Return the parts that a client lists."""
    numbers = [one["PartNumber"] for one in listed]
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        raise S3Error("InvalidPartOrder")
    chosen = []
    for one in listed:
        part = stored.get(one["PartNumber"])
        stated = one.get(member(upload.checksum_algorithm))
        if part is None or part.etag != one["ETag"].strip().strip('"') or stated not in (None, part.checksum):
            raise S3Error("InvalidPart", PartNumber=str(one["PartNumber"]), ETag=one["ETag"][:64])
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < PART_BYTES_MIN:
            raise S3Error(
                "EntityTooSmall",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(PART_BYTES_MIN),
                PartNumber=str(part.number),
            )
    return chosen


def _assemble(upload: Upload, chosen: Sequence[Part]) -> Version:
    md5 = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in chosen), usedforsecurity=False).hexdigest()
    if upload.checksum_type == FULL_OBJECT:
        checksum = combine(upload.checksum_algorithm, [(part.checksum, part.size) for part in chosen])
    else:
        checksum = compose(upload.checksum_algorithm, [part.checksum for part in chosen])
    return Version(
        bucket=upload.bucket,
        key=upload.key,
        size=sum(part.size for part in chosen),
        etag=f"{md5}-{len(chosen)}",
        modified_ms=now_ms(),
        pieces=[piece for part in chosen for piece in part.pieces],
        parts=[(part.number, part.size, part.checksum) for part in chosen],
        headers=upload.headers,
        user_metadata=upload.user_metadata,
        tags=upload.tags,
        acl=upload.acl,
        checksum_algorithm=upload.checksum_algorithm,
        checksum=checksum,
        checksum_type=upload.checksum_type,
    )


def _check_whole(asked: Mapping[str, Any], version: Version) -> None:
    """Compare with what the client states about the whole object."""
    if asked.get("MpuObjectSize", version.size) != version.size:
        raise S3Error("InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match the parts.")
    if asked.get("ChecksumType", version.checksum_type) != version.checksum_type:
        raise S3Error("InvalidRequest", f"The upload was created with the {version.checksum_type} checksum type.")
    for algorithm in ALGORITHMS:
        stated = asked.get(member(algorithm))
        if stated is None:
            continue
        if algorithm != version.checksum_algorithm:
            raise S3Error("InvalidRequest", f"The upload was created with {version.checksum_algorithm} checksums.")
        if stated not in (version.checksum, version.checksum.partition("-")[0]):
            raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
