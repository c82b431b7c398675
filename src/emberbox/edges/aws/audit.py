"""The audit record of one request, in the fields of CloudTrail's record contents.

What the service model marks as sensitive is left out, at any depth, and so is anything of a request that was not read.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from botocore.model import Shape

from emberbox.edges.aws.exchange import Exchange
from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.edges.aws.sigv4 import claimed_key_id
from emberbox.model.iam.access import Credential, PrincipalKind
from emberbox.spec.models import EMBERBOX, LOGS, holds_secret, trait

EVENT_VERSION: Final = "1.0"
_SOURCES: Final = {LOGS: "logs.amazonaws.com", EMBERBOX: "emberbox"}
_LAMBDA: Final = "lambda.amazonaws.com"
_READ_ONLY: Final = ("Get", "List", "Describe", "Filter", "Lookup")
_NOT_READ_ONLY: Final = frozenset({"GetSessionToken"})
_DATA_EVENTS: Final = frozenset(
    {
        "RunMicrovm",
        "TerminateMicrovm",
        "SuspendMicrovm",
        "ResumeMicrovm",
        "CreateMicrovmAuthToken",
        "CreateMicrovmShellAuthToken",
    }
)
"""What CloudTrail counts as data events (dossier, section 10)."""

_TEXT_MAX: Final = 4096


def make_record(exchange: Exchange, answer: Answer, region: str) -> dict[str, Any]:
    """Return the record of a request that was answered.

    Args:
        exchange: what came, and what was made of it.
        answer: what is sent.
        region: the region played.
    """
    request, match, credential, error = exchange.request, exchange.match, exchange.credential, exchange.error
    name = match.name if match else "Unknown"
    read_only = name.startswith(_READ_ONLY) and name not in _NOT_READ_ONLY
    record = {
        "eventVersion": EVENT_VERSION,
        "eventID": str(uuid.uuid4()),
        "eventTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        "eventName": name,
        "eventSource": _SOURCES.get(match.service, _LAMBDA) if match else _LAMBDA,
        "eventCategory": "Data" if name in _DATA_EVENTS else "Management",
        "awsRegion": region,
        "recipientAccountId": credential.account_id if credential else None,
        "userIdentity": _identity(credential, request),
        "sourceIPAddress": request.source_ip if request else "",
        "userAgent": (request.header("user-agent") or "")[:_TEXT_MAX] if request else "",
        "requestID": exchange.request_id,
        "readOnly": read_only,
        "httpStatus": answer.status,
        "resources": [_resource(arn) for arn in exchange.resources if arn.startswith("arn:")],
        "requestParameters": _without_secrets(match.operation.input_shape, exchange.parameters) if match else None,
        "responseElements": None,
    }
    if match and not read_only and error is None:
        record["responseElements"] = _without_secrets(match.operation.output_shape, exchange.result) or None
    if error is not None:
        record["errorCode"] = answer.headers.get("x-amzn-ErrorType") or _json_rpc_code(answer)
        record["errorMessage"] = _message(error)
    return record


def _json_rpc_code(answer: Answer) -> str:
    return str(json.loads(answer.body)["__type"])


def _identity(credential: Credential | None, request: HttpRequest | None) -> dict[str, Any]:
    if credential is None:
        claimed = claimed_key_id(request) if request else None
        return {"type": "Unknown"} if claimed is None else {"type": "Unknown", "accessKeyId": claimed}
    shared = {
        "arn": credential.principal_arn,
        "accountId": credential.account_id,
        "accessKeyId": credential.access_key_id,
        "userName": credential.name,
    }
    if credential.kind is PrincipalKind.ROLE:
        return {"type": "AssumedRole", **shared, "sessionName": credential.session_name}
    return {"type": "IAMUser", **shared}


def _resource(arn: str) -> dict[str, str]:
    parts = arn.split(":")
    kind = {"microvm-image": "AWS::Lambda::MicrovmImage", "network-connector": "AWS::Lambda::NetworkConnector"}
    found = {"ARN": arn, "accountId": parts[4] if len(parts) > 4 else ""}
    if len(parts) > 5 and parts[5] in kind:
        found["type"] = kind[parts[5]]
    return found


def _message(error: Exception) -> str | None:
    """Return the text that the caller was told; that of an unexpected error is for the server's log alone."""
    message: str | None = getattr(error, "message", None)
    return message[:_TEXT_MAX] if message else None


def _without_secrets(shape: Shape | None, value: Any) -> Any:
    """Return a value without what is sensitive in it."""
    if shape is None or value is None:
        return None
    if not holds_secret(shape):
        return value
    match shape.type_name:
        case "structure":
            kept = {name: member for name, member in shape.members.items() if name in value and not _is_secret(member)}
            return {name: _without_secrets(member, value[name]) for name, member in kept.items()}
        case "list":
            return [_without_secrets(shape.member, item) for item in value]
    return None


def _is_secret(shape: Shape) -> bool:
    """Say whether nothing of a value may be shown."""
    return bool(trait(shape, "sensitive")) or (shape.type_name == "map" and holds_secret(shape))
