"""Operations on buckets themselves."""

from __future__ import annotations

import base64
from typing import Any, Final

from sqlalchemy.exc import IntegrityError

from emberbox.s3 import acls
from emberbox.s3.addressing import is_bucket_name
from emberbox.s3.call import Call, Handler, Reply, moment, now_ms, owner
from emberbox.s3.errors import S3Error
from emberbox.s3.index import ENABLED, SUSPENDED, Bucket, Index
from emberbox.s3.parse import parse_document, payload_member
from emberbox.s3.serialise import NAMESPACE, document, xml_text
from emberbox.s3.tags import BUCKET_TAGS_MAX, from_members

CLASSIC_REGION: Final = "us-east-1"
"""There CreateBucket of one's own bucket is no error, and the location is empty."""

_MANY: Final = 10_000


class Buckets:
    """Answers the operations.

    Args:
        index: the rows.
        region: the region that is played.
    """

    def __init__(self, index: Index, region: str) -> None:
        self._index = index
        self._region = region

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "ListBuckets": self.list_buckets,
            "CreateBucket": self.create,
            "HeadBucket": self.head,
            "DeleteBucket": self.delete,
            "GetBucketLocation": self.location,
            "GetBucketVersioning": self.versioning,
            "PutBucketVersioning": self.put_versioning,
        }

    def list_buckets(self, call: Call) -> Reply:
        """ListBuckets: the caller's account's."""
        asked = call.parameters
        most = min(max(asked.get("MaxBuckets", _MANY), 1), _MANY)
        try:
            after = base64.urlsafe_b64decode(asked.get("ContinuationToken", "")).decode()
        except ValueError:
            raise S3Error("InvalidArgument", ArgumentName="continuation-token") from None
        account = call.caller.account_id
        with self._index.reading() as rows:
            found = rows.buckets(account, asked.get("Prefix", ""), after, most + 1)
        token = base64.urlsafe_b64encode(found[most - 1].name.encode()).decode() if len(found) > most else None
        shown = [
            {"Name": one.name, "CreationDate": moment(one.created_ms), "BucketRegion": one.region}
            for one in found[:most]
        ]
        members = {"Buckets": shown, "Owner": owner(account), "ContinuationToken": token}
        return Reply(members | {"Prefix": asked.get("Prefix")})

    def create(self, call: Call) -> Reply:
        """CreateBucket: of one's own bucket an error everywhere but in the classic region."""
        name = call.bucket.name
        if call.parameters.get("ObjectLockEnabledForBucket"):
            raise S3Error(
                "NotImplemented", "Object Lock is not implemented.", Header="x-amz-bucket-object-lock-enabled"
            )
        if not is_bucket_name(name):
            raise S3Error("InvalidBucketName", BucketName=name[:255])
        body = call.read_body()
        chosen: dict[str, Any] = {}
        if body.strip():
            found = payload_member(call.model)
            assert found is not None
            chosen = parse_document(found[1], body)
        if chosen.get("Bucket") or chosen.get("Location"):
            raise S3Error("NotImplemented", "Directory buckets are not implemented.")
        acl = acls.chosen(call)
        region = chosen.get("LocationConstraint") or self._region
        bucket = Bucket(name, call.caller.account_id, region, now_ms())
        tags = chosen.get("Tags") or []
        from_members({"TagSet": tags}, BUCKET_TAGS_MAX)
        try:
            with self._index.writing() as rows:
                rows.add_bucket(bucket)
                if acl is not None:
                    rows.put_document(name, "acl", acl.encode())
                if tags:
                    rows.put_document(name, "tagging", _tag_document(tags))
                if ownership := call.parameters.get("ObjectOwnership"):
                    rows.put_document(name, "ownershipControls", _ownership_document(ownership))
        except IntegrityError:
            self._refuse_taken(name, call.caller.account_id)
        return Reply({"Location": f"/{name}"})

    def _refuse_taken(self, name: str, account_id: str) -> None:
        with self._index.reading() as rows:
            taken = rows.bucket(name)
        if taken is None or taken.account_id != account_id:
            raise S3Error("BucketAlreadyExists", BucketName=name)
        if self._region != CLASSIC_REGION:
            raise S3Error("BucketAlreadyOwnedByYou", BucketName=name)

    def head(self, call: Call) -> Reply:
        """HeadBucket."""
        return Reply({"BucketRegion": call.bucket.region})

    def delete(self, call: Call) -> Reply:
        """DeleteBucket: an empty one; uploads in parts that nobody completed go with it."""
        with self._index.writing() as rows:
            rows.remove_bucket(call.bucket.name)
        return Reply()

    def location(self, call: Call) -> Reply:
        """GetBucketLocation."""
        region = "" if call.bucket.region == CLASSIC_REGION else xml_text(call.bucket.region)
        return Reply(text=document(f'<LocationConstraint xmlns="{NAMESPACE}">{region}</LocationConstraint>'))

    def versioning(self, call: Call) -> Reply:
        """GetBucketVersioning: nothing where it was never set."""
        return Reply({"Status": call.bucket.versioning or None})

    def put_versioning(self, call: Call) -> Reply:
        """PutBucketVersioning."""
        found = payload_member(call.model)
        assert found is not None
        chosen = parse_document(found[1], call.read_body())
        if chosen.get("MFADelete") == ENABLED:
            raise S3Error("NotImplemented", "MFA Delete is not implemented.")
        if chosen.get("Status") not in (ENABLED, SUSPENDED):
            raise S3Error("IllegalVersioningConfigurationException")
        with self._index.writing() as rows:
            rows.set_versioning(call.bucket.name, chosen["Status"])
        return Reply()


def _tag_document(tags: list[dict[str, str]]) -> bytes:
    inner = "".join(
        f"<Tag><Key>{xml_text(tag['Key'])}</Key><Value>{xml_text(tag['Value'])}</Value></Tag>" for tag in tags
    )
    return document(f"<Tagging><TagSet>{inner}</TagSet></Tagging>")


def _ownership_document(ownership: str) -> bytes:
    rule = f"<Rule><ObjectOwnership>{xml_text(ownership)}</ObjectOwnership></Rule>"
    return document(f"<OwnershipControls>{rule}</OwnershipControls>")
