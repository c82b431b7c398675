"""Which of AWS's wire protocols a request speaks, so that its refusal can be read by whoever sent it.

The head of a request says that, before its body is read and its sender is known.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from emberbox.edges.aws.cbor import PROTOCOL as CBOR_PROTOCOL
from emberbox.edges.aws.http import HttpRequest

FORM: Final = "application/x-www-form-urlencoded"
EC2_NAME: Final = "ec2"
_XML_SERVICES: Final = frozenset({"s3", "route53", "cloudfront", "s3-outposts", "s3-object-lambda"})


class Dialect(Enum):
    """A wire protocol."""

    REST_JSON = auto()
    JSON = auto()
    QUERY = auto()
    EC2 = auto()
    REST_XML = auto()
    CBOR = auto()

    @property
    def is_json(self) -> bool:
        """Whether its answers are JSON."""
        return self in (Dialect.REST_JSON, Dialect.JSON)


def read_dialect(head: HttpRequest) -> Dialect:
    """Return the protocol of a request.

    Args:
        head: the request; its body does not matter.
    """
    if head.header("x-amz-target") is not None:
        return Dialect.JSON
    if head.header("smithy-protocol") == CBOR_PROTOCOL:
        return Dialect.CBOR
    signing_name = claimed_signing_name(head)
    is_root = head.raw_path == "/"  # where both query protocols are sent to, and nothing else
    is_form = (head.header("content-type") or "").partition(";")[0].strip().lower() == FORM
    if is_root and (is_form or any(name == "Action" for name, _ in head.query_pairs())):
        return Dialect.EC2 if signing_name == EC2_NAME else Dialect.QUERY
    return Dialect.REST_XML if signing_name in _XML_SERVICES else Dialect.REST_JSON


def claimed_signing_name(head: HttpRequest) -> str:
    """Return the service that a signature claims to be made for, checked or not; empty when it names none.

    A credential scope is `KEY/DATE/REGION/SERVICE/aws4_request`, in the header or in a presigned query.
    """
    text = (head.header("authorization") or "").partition("Credential=")[2].partition(",")[0]
    scope = (text or dict(head.query_pairs()).get("X-Amz-Credential", "")).strip().split("/")
    return scope[3] if len(scope) == 5 else ""
