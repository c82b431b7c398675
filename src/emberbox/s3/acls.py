"""Access control lists: kept as they were put, and shown; what decides are owners and policies (docs/s3.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from emberbox.s3.call import Call, owner
from emberbox.s3.errors import S3Error
from emberbox.s3.parse import parse_document
from emberbox.s3.serialise import NAMESPACE, xml_text
from emberbox.spec.models import load_service

PRIVATE: Final = "private"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_GROUPS: Final = "http://acs.amazonaws.com/groups/"
_EVERYBODY: Final = f"{_GROUPS}global/AllUsers"
_KNOWN: Final = f"{_GROUPS}global/AuthenticatedUsers"
_LOG_WRITER: Final = f"{_GROUPS}s3/LogDelivery"
_CANNED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {  # what is granted beside the owner's FULL_CONTROL
    PRIVATE: (),
    "public-read": ((_EVERYBODY, "READ"),),
    "public-read-write": ((_EVERYBODY, "READ"), (_EVERYBODY, "WRITE")),
    "authenticated-read": ((_KNOWN, "READ"),),
    "aws-exec-read": (),
    "bucket-owner-read": (),
    "bucket-owner-full-control": (),
    "log-delivery-write": ((_LOG_WRITER, "WRITE"), (_LOG_WRITER, "READ_ACP")),
}
_GRANTS: Final = {
    "GrantFullControl": "FULL_CONTROL",
    "GrantRead": "READ",
    "GrantReadACP": "READ_ACP",
    "GrantWrite": "WRITE",
    "GrantWriteACP": "WRITE_ACP",
}
_KINDS: Final = {"id": ("CanonicalUser", "ID"), "uri": ("Group", "URI"), "emailaddress": ("AmazonCustomerByEmail", "EmailAddress")}  # fmt: skip # noqa: E501


def chosen(call: Call) -> str | None:
    """Return the ACL that a request's headers choose, a canned one or a document; None where they are silent.

    Raises:
        S3Error: it does not exist, or there are two.
    """
    canned = call.parameters.get("ACL")
    grants = [(name, call.parameters[name]) for name in _GRANTS if name in call.parameters]
    if canned is not None and grants:
        raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
    if canned is not None:
        if canned not in _CANNED:
            raise S3Error("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=canned[:64])
        return str(canned)
    return _grant_document(call.caller.account_id, grants) if grants else None


def put(call: Call) -> str:
    """Return the ACL that PutObjectAcl or PutBucketAcl states, in headers or in the body.

    Raises:
        S3Error: it is malformed.
    """
    body = call.read_body()
    acl = chosen(call)
    if acl is not None:
        return acl
    if not body.strip():
        raise S3Error("MissingSecurityHeader", "Your request was missing a required header: x-amz-acl")
    _parse(body)
    return body.decode("utf-8", "replace")


def show(acl: str, account_id: str) -> dict[str, Any]:
    """Return an ACL as members of an answer."""
    if acl.lstrip("\ufeff \r\n\t").startswith("<"):
        return {"Owner": owner(account_id)} | _parse(acl.encode())
    grants: list[dict[str, Any]] = [
        {"Grantee": {"Type": "CanonicalUser", **owner(account_id)}, "Permission": "FULL_CONTROL"}
    ]
    for uri, permission in _CANNED.get(acl, ()):
        grants.append({"Grantee": {"Type": "Group", "URI": uri}, "Permission": permission})
    return {"Owner": owner(account_id), "Grants": grants}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed: dict[str, Any] = parse_document(load_service("s3").shape_for("AccessControlPolicy"), body)
    except S3Error:
        raise S3Error("MalformedACLError") from None
    if "Grants" not in parsed and "Owner" not in parsed:
        raise S3Error("MalformedACLError")
    return parsed


def _grant_document(account_id: str, grants: list[tuple[str, str]]) -> str:
    rows = ""
    for name, text in grants:
        for one in text.split(","):
            kind, _, value = one.strip().partition("=")
            if kind.strip().lower() not in _KINDS:
                raise S3Error("InvalidArgument", "Argument format not recognized", ArgumentName=name)
            type_name, element = _KINDS[kind.strip().lower()]
            grantee = f'<Grantee xmlns:xsi="{_XSI}" xsi:type="{type_name}"><{element}>'
            grantee += f"{xml_text(value.strip().strip(chr(34)))}</{element}></Grantee>"
            rows += f"<Grant>{grantee}<Permission>{_GRANTS[name]}</Permission></Grant>"
    who = owner(account_id)
    head = f"<Owner><ID>{who['ID']}</ID><DisplayName>{who['DisplayName']}</DisplayName></Owner>"
    return f'<AccessControlPolicy xmlns="{NAMESPACE}">{head}<AccessControlList>{rows}</AccessControlList></AccessControlPolicy>'  # noqa: E501
