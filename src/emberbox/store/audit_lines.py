"""The audit trail's lines: JSON in the fields of CloudTrail's record contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from emberbox.model.iam.access import PrincipalKind
from emberbox.model.iam.audit import AuditEvent, AuditGap, AuditRecord, KnownSender, Stranger

EVENT_VERSION: Final = "1.0"
LOST_EVENT: Final = "AuditRecordsLost"
_OWN_SOURCE: Final = "emberbox"
_SENDER_TYPES: Final = {PrincipalKind.USER: "IAMUser", PrincipalKind.ROLE: "AssumedRole"}
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode


def write_line(record: AuditRecord | AuditGap) -> str:
    """Return the line of a record, without its end."""
    return _encode(_gap_fields(record) if isinstance(record, AuditGap) else _record_fields(record))


def read_line(line: str) -> AuditEvent:
    """Return what a line tells.

    Raises:
        ValueError: it is not whole.
    """
    fields: dict[str, Any] = json.loads(line)  # Any: a field has whatever type it has in JSON
    return AuditEvent(
        id=fields.get("eventID", ""),
        operation=fields["eventName"],
        happened_at=datetime.fromisoformat(fields["eventTime"]),
        account_id=fields.get("recipientAccountId"),
        user_name=(fields.get("userIdentity") or {}).get("userName"),
        error_code=fields.get("errorCode"),
        line=line.rstrip("\n"),
    )


def _gap_fields(gap: AuditGap) -> Mapping[str, object]:
    return {
        "eventName": LOST_EVENT,
        "eventTime": _moment(gap.happened_at),
        "eventSource": _OWN_SOURCE,
        "reason": gap.reason,
        "count": gap.count,
    }


def _record_fields(record: AuditRecord) -> Mapping[str, object]:
    fields: dict[str, object] = {
        "eventVersion": EVENT_VERSION,
        "eventID": record.id,
        "eventTime": _moment(record.happened_at),
        "eventName": record.operation,
        "eventSource": record.source,
        "eventCategory": "Data" if record.is_data else "Management",
        "awsRegion": record.region,
        "recipientAccountId": None if isinstance(record.sender, Stranger) else record.sender.account_id,
        "userIdentity": _sender_fields(record.sender),
        "sourceIPAddress": record.source_ip,
        "userAgent": record.user_agent,
        "requestID": record.request_id,
        "readOnly": record.read_only,
        "httpStatus": record.status,
        "resources": [
            {"ARN": resource.arn, "accountId": resource.account_id}
            | ({} if resource.kind is None else {"type": resource.kind})
            for resource in record.resources
        ],
        "requestParameters": record.parameters,
        "responseElements": record.answer,
    }
    if record.refusal is not None:
        fields |= {"errorCode": record.refusal.code, "errorMessage": record.refusal.message}
    return fields


def _sender_fields(sender: KnownSender | Stranger) -> Mapping[str, str]:
    if isinstance(sender, Stranger):
        claimed = sender.claimed_key_id
        return {"type": "Unknown"} | ({} if claimed is None else {"accessKeyId": claimed})
    fields = {
        "type": _SENDER_TYPES[sender.kind],
        "arn": sender.arn,
        "accountId": sender.account_id,
        "accessKeyId": sender.access_key_id,
        "userName": sender.name,
    }
    return fields | ({"sessionName": sender.session_name} if sender.kind is PrincipalKind.ROLE else {})


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
