"""What the operations on accounts, keys, policies, roles, quotas and the audit trail answer, byte for byte.

`answers.txt` has one line for each request below. What differs each time is masked there: key ids, secrets, session
tokens, moments, page tokens, the ids of requests.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

from emberbox.spec.models import EMBERBOX, MICROVMS
from support.wire import call, signed_operation

from .access_world import ALLOW_ALL, OPERATOR, World, as_key

FIRST, NOBODYS = "111111111111", "222222222222"
ANSWERS: Final = Path(__file__).with_name("answers.txt")

_MASKS: Final = (
    (r'(\\?")(AKIA|ASIA)[A-Z2-7]{16}\\?"', r"\1<\2>\1"),
    (r'"secretAccessKey":"[A-Za-z0-9]{40}"', '"secretAccessKey":"<secret>"'),
    (r'"(sessionToken|nextToken)":"[^"]+"', r'"\1":"<token>"'),
    (r'"(createdAt|updatedAt|expiration|eventTime)":[0-9.]+', r'"\1":<moment>'),
    (r'\\"eventTime\\":\\"[0-9-]{10}T[0-9:]{8}\.[0-9]{6}Z\\"', r'\\"eventTime\\":\\"<moment>\\"'),
    (r'(\\?"(?:eventID|requestID|eventId)\\?":\\?")[0-9a-f-]{36}', r"\1<id>"),
)

_POLICY: Final = {"policyName": "all", "userName": "ann", "policyDocument": ALLOW_ALL}
_OWN: Final = {"accessKeyId": "A" * 20, "secretAccessKey": "b" * 40}
_FULL_ROLE: Final = {
    "roleName": "full",
    "description": "words",
    "s3Prefixes": ["s3://a/", "s3://b/c"],
    "policyDocument": ALLOW_ALL,
    "credentials": _OWN,
}
_READER: Final = {"roleName": "bare", "roleSessionName": "me"}
REQUESTS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("CreateAccount", {"accountName": "one", "accountId": FIRST}),
    ("CreateAccount", {"accountName": "one", "accountId": FIRST}),
    ("ListAccounts", {}),
    ("CreateAccessKey", {"userName": "ann", "accountId": FIRST}),
    ("CreateAccessKey", {"userName": "ann", "accountId": NOBODYS}),
    ("ListAccessKeys", {"accountId": FIRST, "userName": "ann"}),
    ("ListAccessKeys", {}),
    ("UpdateAccessKey", {"accessKeyId": "bobs", "status": "Inactive"}),
    ("DeleteAccessKey", {"accessKeyId": "bobs"}),
    ("UpdateAccessKey", {"accessKeyId": "AKIAUNKNOWNUNKNOWN00", "status": "Active"}),
    ("PutPolicy", _POLICY),
    ("PutPolicy", _POLICY | {"policyDocument": "{}"}),
    ("PutPolicy", _POLICY | {"userName": "admin"}),
    ("ListPolicies", {}),
    ("ListPolicies", {"userName": "ann"}),
    ("DeletePolicy", {"policyName": "all", "userName": "ann"}),
    ("DeletePolicy", {"policyName": "all", "userName": "ann"}),
    ("PutRole", {"roleName": "bare"}),
    ("PutRole", _FULL_ROLE),
    ("PutRole", {"roleName": "none", "s3Prefixes": [], "credentials": _OWN | {"sessionToken": "t"}}),
    ("ListRoles", {}),
    ("DeleteRole", {"roleName": "full"}),
    ("DeleteRole", {"roleName": "full"}),
    ("GetSessionToken", {}),
    ("AssumeRole", _READER),
    ("AssumeRole", _READER | {"durationSeconds": 43_201}),
    ("AssumeRole", _READER | {"roleName": "other"}),
    ("PutQuota", {"quotaCode": "Images", "value": 7}),
    ("PutQuota", {"quotaCode": "NetworkConnectors", "value": 0}),
    ("PutQuota", {"quotaCode": "ListMicrovmsRate", "value": 3}),
    ("PutQuota", {"quotaCode": "Nonsense", "value": 3}),
    ("DeleteQuota", {"quotaCode": "Images"}),
    ("ListQuotas", {}),
    ("LookupAuditEvents", {"eventName": "ListAccounts"}),
    ("LookupAuditEvents", {"eventName": "DeleteRole"}),
    ("LookupAuditEvents", {"eventName": "DeleteQuota"}),
    ("LookupAuditEvents", {"eventName": "TagResource"}),
    ("LookupAuditEvents", {"eventName": "ListMicrovms"}),
    ("LookupAuditEvents", {"eventName": "Unknown"}),
    ("LookupAuditEvents", {"username": "nobody"}),
]


def masked(text: str) -> str:
    for pattern, mask in _MASKS:
        text = re.sub(pattern, mask, text)
    return text


async def test_answers_are_as_they_were_byte_for_byte(world: World) -> None:
    bobs = (await world.own(world.admin, "CreateAccessKey", userName="bob"))["accessKey"]["accessKeyId"]
    answers = []
    for operation, parameters in REQUESTS:
        if operation == "LookupAuditEvents" and parameters == {"eventName": "TagResource"}:
            await _leave_other_records(world)
        sent = {name: bobs if value == "bobs" else value for name, value in parameters.items()}
        answer = await call(world.app, signed_operation(EMBERBOX, operation, sent, world.admin))
        answers.append(masked(f"{operation} {answer.status} {answer.body.decode()}").rstrip())
    assert answers == ANSWERS.read_text().splitlines()


async def _leave_other_records(world: World) -> None:
    """Do something to a resource of AWS's, be refused with an assumed role, and be a stranger."""
    image = world.add_image(OPERATOR, "web")
    await world.call(world.admin, "TagResource", Resource=image.arn, Tags={"a": "b"})
    role = as_key((await world.own(world.admin, "AssumeRole", **_READER))["credentials"])
    stranger = as_key({"accessKeyId": "AKIAUNKNOWNUNKNOWN00", "secretAccessKey": "x"})
    for key in (role, stranger):
        answer = await call(world.app, signed_operation(MICROVMS, "ListMicrovms", {}, key))
        assert answer.status == 403


@pytest.mark.parametrize(("operation", "default_s"), [("GetSessionToken", 43_200), ("AssumeRole", 3600)])
async def test_credentials_live_as_long_as_is_said_or_a_default(world: World, operation: str, default_s: int) -> None:
    await world.own(world.admin, "PutRole", roleName="bare")
    role = _READER if operation == "AssumeRole" else {}
    ends = [
        (await world.own(world.admin, operation, **role, **asked))["credentials"]["expiration"]
        for asked in ({"durationSeconds": default_s}, {}, {"durationSeconds": default_s + 600})
    ]
    assert 0 <= ends[1] - ends[0] < 60
    assert 600 <= ends[2] - ends[0] < 660
