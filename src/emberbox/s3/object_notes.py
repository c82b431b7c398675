"""What is kept beside an object and may change while it stays: tags and the access control list."""

from __future__ import annotations

from typing import Any

from emberbox.s3 import acls, tags
from emberbox.s3.call import Call, Handler, Reply
from emberbox.s3.index import Index
from emberbox.s3.parse import parse_document, payload_member
from emberbox.s3.versions import find, shown_id


class ObjectNotes:
    """Answers the operations on tags and access control lists.

    Args:
        index: the rows.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        return {
            "GetObjectTagging": self.get_tags,
            "PutObjectTagging": self.put_tags,
            "DeleteObjectTagging": self.delete_tags,
            "GetObjectAcl": self.get_acl,
            "PutObjectAcl": self.put_acl,
        }

    def get_tags(self, call: Call) -> Reply:
        """GetObjectTagging."""
        with self._index.reading() as rows:
            version = find(rows, call)
        return Reply({"TagSet": tags.show(version.tags), "VersionId": shown_id(call, version)})

    def put_tags(self, call: Call) -> Reply:
        """PutObjectTagging."""
        found = payload_member(call.model)
        assert found is not None
        return self._change(call, tags=tags.from_members(parse_document(found[1], call.read_body())))

    def delete_tags(self, call: Call) -> Reply:
        """DeleteObjectTagging: the tags alone."""
        return self._change(call, tags=[])

    def get_acl(self, call: Call) -> Reply:
        """GetObjectAcl."""
        with self._index.reading() as rows:
            version = find(rows, call)
        return Reply(acls.show(version.acl, call.bucket.account_id))

    def put_acl(self, call: Call) -> Reply:
        """PutObjectAcl."""
        self._change(call, acl=acls.put(call))
        return Reply()

    def _change(self, call: Call, **values: Any) -> Reply:
        with self._index.writing() as rows:
            version = find(rows, call)
            rows.change(version, **values)
        return Reply({"VersionId": shown_id(call, version)})
