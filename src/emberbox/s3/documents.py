"""Documents about a bucket: kept as they were put, and given back. Removing one removes nothing else.

Emberbox acts on none of them (docs/s3.md): a lifecycle removes nothing, a policy lets nobody else in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree

from emberbox.s3 import acls
from emberbox.s3.call import Call, Handler, Reply
from emberbox.s3.errors import S3Error
from emberbox.s3.index import Index
from emberbox.s3.parse import parse_document, payload_member, read_xml
from emberbox.s3.serialise import XML, document
from emberbox.s3.tags import BUCKET_TAGS_MAX, from_members

_POLICY_BYTES_MAX: Final = 20 << 10


@dataclass(frozen=True, slots=True)
class _Kind:
    """One sub-resource.

    Attributes:
        name: its query key.
        operation: what the names of its operations have in common, after Get, Put and Delete.
        absent: the error when there is none, or the document that stands for none.
        deletes: the operation that removes it, empty where there is none.
    """

    name: str
    operation: str
    absent: str
    deletes: str = ""


_KINDS: Final = (
    _Kind("tagging", "BucketTagging", "NoSuchTagSet", "DeleteBucketTagging"),
    _Kind("policy", "BucketPolicy", "NoSuchBucketPolicy", "DeleteBucketPolicy"),
    _Kind("cors", "BucketCors", "NoSuchCORSConfiguration", "DeleteBucketCors"),
    _Kind("lifecycle", "BucketLifecycleConfiguration", "NoSuchLifecycleConfiguration", "DeleteBucketLifecycle"),
    _Kind(
        "encryption",
        "BucketEncryption",
        "ServerSideEncryptionConfigurationNotFoundError",
        "DeleteBucketEncryption",
    ),
    _Kind("publicAccessBlock", "PublicAccessBlock", "NoSuchPublicAccessBlockConfiguration", "DeletePublicAccessBlock"),
    _Kind(
        "ownershipControls",
        "BucketOwnershipControls",
        "OwnershipControlsNotFoundError",
        "DeleteBucketOwnershipControls",
    ),
    _Kind("website", "BucketWebsite", "NoSuchWebsiteConfiguration", "DeleteBucketWebsite"),
    _Kind("replication", "BucketReplication", "ReplicationConfigurationNotFoundError", "DeleteBucketReplication"),
    _Kind("logging", "BucketLogging", "<BucketLoggingStatus/>"),
    _Kind("notification", "BucketNotificationConfiguration", "<NotificationConfiguration/>"),
    _Kind("accelerate", "BucketAccelerateConfiguration", "<AccelerateConfiguration/>"),
    _Kind(
        "requestPayment",
        "BucketRequestPayment",
        "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
    ),
)
_SETS: Final = (  # several of a kind, each with an id
    ("analytics", "BucketAnalyticsConfiguration"),
    ("inventory", "BucketInventoryConfiguration"),
    ("metrics", "BucketMetricsConfiguration"),
    ("intelligent-tiering", "BucketIntelligentTieringConfiguration"),
)
_CHECKS: Final[Mapping[str, Callable[[object], object]]] = {
    "tagging": lambda parsed: from_members(parsed, BUCKET_TAGS_MAX),  # type: ignore[arg-type]  # as modelled
}


class Documents:
    """Answers the operations.

    Args:
        index: the rows.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the model."""
        found: dict[str, Handler] = {
            "GetBucketAcl": self._get_acl,
            "PutBucketAcl": self._put_acl,
            "GetBucketPolicyStatus": self._policy_status,
        }
        for kind in _KINDS:
            found[f"Get{kind.operation}"] = self._getter(kind)
            found[f"Put{kind.operation}"] = self._putter(kind.name)
            if kind.deletes:
                found[kind.deletes] = self._deleter(kind.name)
        for name, operation in _SETS:
            found[f"Get{operation}"] = self._getter(_Kind(name, operation, "NoSuchConfiguration"))
            found[f"Put{operation}"] = self._putter(name)
            found[f"Delete{operation}"] = self._deleter(name, "NoSuchConfiguration")
            found[f"List{operation}s"] = self._lister(name, operation)
        return found

    def _getter(self, kind: _Kind) -> Handler:
        def get(call: Call) -> Reply:
            with self._index.reading() as rows:
                text = rows.document(call.bucket.name, kind.name, call.parameters.get("Id", ""))
            if text is None:
                if not kind.absent.startswith("<"):
                    raise S3Error(kind.absent, BucketName=call.bucket.name)
                text = document(kind.absent)
            return Reply(text=text, headers={"Content-Type": "application/json" if kind.name == "policy" else XML})

        return get

    def _putter(self, name: str) -> Handler:
        def put(call: Call) -> Reply:
            text = call.read_body()
            _check(call, name, text)
            with self._index.writing() as rows:
                if rows.bucket(call.bucket.name) is None:
                    raise S3Error("NoSuchBucket", BucketName=call.bucket.name)
                rows.put_document(call.bucket.name, name, text, call.parameters.get("Id", ""))
            return Reply()

        return put

    def _deleter(self, name: str, absent: str = "") -> Handler:
        def delete(call: Call) -> Reply:
            with self._index.writing() as rows:
                chosen = call.parameters.get("Id", "")
                if absent and rows.document(call.bucket.name, name, chosen) is None:
                    raise S3Error(absent, BucketName=call.bucket.name)
                rows.remove_document(call.bucket.name, name, chosen)
            return Reply(status=204)

        return delete

    def _lister(self, name: str, operation: str) -> Handler:
        def list_all(call: Call) -> Reply:
            with self._index.reading() as rows:
                texts = rows.documents(call.bucket.name, name)
            inner = "".join(_bare(text) for text in texts)
            root = f"List{operation}sResult"
            return Reply(text=document(f"<{root}><IsTruncated>false</IsTruncated>{inner}</{root}>"))

        return list_all

    def _get_acl(self, call: Call) -> Reply:
        with self._index.reading() as rows:
            text = rows.document(call.bucket.name, "acl")
        return Reply(acls.show((text or acls.PRIVATE.encode()).decode(), call.bucket.account_id))

    def _put_acl(self, call: Call) -> Reply:
        acl = acls.put(call)
        with self._index.writing() as rows:
            if rows.bucket(call.bucket.name) is None:
                raise S3Error("NoSuchBucket", BucketName=call.bucket.name)
            rows.put_document(call.bucket.name, "acl", acl.encode())
        return Reply()

    def _policy_status(self, call: Call) -> Reply:
        with self._index.reading() as rows:
            if rows.document(call.bucket.name, "policy") is None:
                raise S3Error("NoSuchBucketPolicy", BucketName=call.bucket.name)
        return Reply({"PolicyStatus": {"IsPublic": False}})  # whatever it says, it lets nobody in


def _check(call: Call, name: str, text: bytes) -> None:
    """Refuse a document that is not as modelled."""
    if name == "policy":
        _check_policy(text)
        return
    found = payload_member(call.model)
    assert found is not None
    parsed = parse_document(found[1], text)
    if name in _CHECKS:
        _CHECKS[name](parsed)
    if "Id" in call.parameters and parsed.get("Id") != call.parameters["Id"]:
        raise S3Error("MalformedXML", "The Id of the document is not that of the request.")


def _check_policy(text: bytes) -> None:
    if len(text) > _POLICY_BYTES_MAX:
        raise S3Error("MalformedPolicy", "The policy is larger than 20 KiB.")
    try:
        is_object = isinstance(json.loads(text.decode()), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise S3Error("MalformedPolicy")


def _bare(text: bytes) -> str:
    """Return a stored document as an element, without its namespace."""
    root = read_xml(text)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return ElementTree.tostring(root, encoding="unicode")
