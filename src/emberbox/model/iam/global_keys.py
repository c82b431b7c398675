"""The condition keys that AWS has for every service ("AWS global condition context keys"), in lower case.

A key is there where the request makes it known, and absent otherwise: of organisations, VPCs, federation and
devices for MFA there are none here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from emberbox.model.iam.access import Credential, PrincipalKind

RESOURCE_ACCOUNT: Final = "aws:resourceaccount"
"""Whose a resource is: it differs between the permissions of one request."""

_ARN: Final = re.compile(r"arn:[^:]*:[^:]*:[^:]*:([^:]*):")
_PRINCIPAL_TYPES: Final = {PrincipalKind.USER: "User", PrincipalKind.ROLE: "AssumedRole"}
_HEADERS: Final = {"user-agent": "aws:useragent", "referer": "aws:referer"}
_NO, _YES = ("false",), ("true",)

Keys = dict[str, tuple[str, ...]]
"""Condition keys with their values."""


def principal_keys(credential: Credential, source_ip: str, region: str, *, is_secure: bool = False) -> Keys:
    """Return the keys that follow from who signed, from where and when.

    Args:
        credential: of who signed.
        source_ip: an address; empty where it is not known.
        region: the region played.
        is_secure: the request came over TLS.
    """
    now = datetime.now(UTC)
    keys: Keys = {
        "aws:currenttime": (_moment(now),),
        "aws:epochtime": (str(int(now.timestamp())),),
        "aws:principalaccount": (credential.account_id,),
        "aws:principalarn": (credential.identity_arn,),
        "aws:principaltype": (_PRINCIPAL_TYPES[credential.kind],),
        "aws:principalisawsservice": _NO,
        "aws:userid": (credential.user_id,),
        "aws:requestedregion": (region,),
        "aws:securetransport": _YES if is_secure else _NO,
        "aws:viaawsservice": _YES if credential.via else _NO,
        **{f"aws:principaltag/{name.lower()}": (value,) for name, value in credential.tags.items()},
    }
    if source_ip:
        keys["aws:sourceip"] = (source_ip,)
    if credential.kind is PrincipalKind.USER:
        keys["aws:username"] = (credential.name,)
    if credential.via:
        keys |= dict.fromkeys(("aws:calledvia", "aws:calledviafirst", "aws:calledvialast"), (credential.via,))
    return keys | _session_keys(credential)


def _session_keys(credential: Credential) -> Keys:
    """Only temporary credentials have these; that of MFA says that there was none.

    What a service does for the holder of an access key is as little a session's as the request was.
    """
    if credential.session_token is None or (credential.via and credential.issued_at is None):
        return {}
    keys: Keys = {"aws:multifactorauthpresent": _NO}
    if credential.issued_at is not None:
        keys["aws:tokenissuetime"] = (_moment(credential.issued_at),)
    return keys


def header_keys(headers: Mapping[str, str]) -> Keys:
    """Return the keys that a request's headers have, by their names in lower case; the client chooses them."""
    return {key: (headers[name],) for name, key in _HEADERS.items() if headers.get(name)}


def owner_of(resource: str, account_id: str) -> str | None:
    """Return whose a resource is; None for what is AWS's own.

    Args:
        resource: an ARN, or `*`.
        account_id: the account that is asked: whose it is where the ARN does not say.
    """
    found = _ARN.match(resource)
    if found is None or not found[1]:
        return account_id
    return found[1] if found[1].isdecimal() else None


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
