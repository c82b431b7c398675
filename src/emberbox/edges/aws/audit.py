"""The audit record of one request.

What the service model marks as sensitive is left out, at any depth, and so is anything of a request that was not read.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from botocore.model import Shape

from emberbox.edges.aws.errors import NotOfferedError
from emberbox.edges.aws.exchange import Exchange
from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.edges.aws.sigv4 import claimed_key_id
from emberbox.edges.aws.xml import read_xml_code
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditedResource, AuditRecord, KnownSender, Refusal, Stranger
from emberbox.spec.models import (
    CLOUDFORMATION,
    CLOUDWATCH,
    EC2,
    EMBERBOX,
    IAM,
    LOGS,
    QUOTAS,
    SSM,
    STS,
    holds_secret,
    trait,
)

_SOURCES: Final = {
    LOGS: "logs.amazonaws.com",
    EMBERBOX: "emberbox",
    STS: "sts.amazonaws.com",
    IAM: "iam.amazonaws.com",
    QUOTAS: "servicequotas.amazonaws.com",
    CLOUDWATCH: "monitoring.amazonaws.com",
    EC2: "ec2.amazonaws.com",
    CLOUDFORMATION: "cloudformation.amazonaws.com",
    SSM: "ssm.amazonaws.com",
}
_LAMBDA: Final = "lambda.amazonaws.com"
_READ_ONLY: Final = ("Get", "List", "Describe", "Filter", "Lookup", "Validate")
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

_RESOURCE_KINDS: Final = {
    "microvm-image": "AWS::Lambda::MicrovmImage",
    "network-connector": "AWS::Lambda::NetworkConnector",
}
_TEXT_MAX: Final = 4096


def make_record(exchange: Exchange, answer: Answer, region: str) -> AuditRecord:
    """Return the record of a request that was answered.

    Args:
        exchange: what came, and what was made of it.
        answer: what is sent.
        region: the region played.
    """
    request, match, error = exchange.request, exchange.match, exchange.error
    name = match.name if match else exchange.not_offered_name or "Unknown"
    read_only = name.startswith(_READ_ONLY) and name not in _NOT_READ_ONLY
    made = None
    if match and not read_only and error is None:
        made = _without_secrets(match.operation.output_shape, exchange.result) or None
    return AuditRecord(
        id=str(uuid.uuid4()),
        happened_at=datetime.now(UTC),
        operation=name,
        source=_source(exchange),
        is_data=name in _DATA_EVENTS,
        region=region,
        sender=_sender(exchange.credential, request),
        source_ip=exchange.source_ip,
        user_agent=(request.header("user-agent") or "")[:_TEXT_MAX] if request else "",
        request_id=exchange.request_id,
        read_only=read_only,
        status=answer.status,
        resources=tuple(_resource(arn) for arn in exchange.resources if arn.startswith("arn:")),
        parameters=_without_secrets(match.operation.input_shape, exchange.parameters) if match else None,
        answer=made,
        refusal=None if error is None else _refusal(error, answer),
    )


def _source(exchange: Exchange) -> str:
    if exchange.match is not None:
        return _SOURCES.get(exchange.match.service, _LAMBDA)
    if isinstance(exchange.error, NotOfferedError) and exchange.error.signing_name:
        return f"{exchange.error.signing_name[:_TEXT_MAX]}.amazonaws.com"
    return _LAMBDA


def _refusal(error: Exception, answer: Answer) -> Refusal:
    """The text of an unexpected error is for the server's log alone."""
    message: str | None = getattr(error, "message", None)
    code = answer.headers.get("x-amzn-ErrorType") or _code_in_body(answer)
    return Refusal(code, message[:_TEXT_MAX] if message else None)


def _code_in_body(answer: Answer) -> str:
    return read_xml_code(answer) if answer.body.startswith(b"<") else str(json.loads(answer.body)["__type"])


def _sender(credential: Credential | None, request: HttpRequest | None) -> KnownSender | Stranger:
    if credential is None:
        return Stranger(claimed_key_id(request) if request else None)
    return KnownSender.of(credential)


def _resource(arn: str) -> AuditedResource:
    parts = arn.split(":")
    return AuditedResource(
        arn=arn,
        account_id=parts[4] if len(parts) > 4 else "",
        kind=_RESOURCE_KINDS.get(parts[5]) if len(parts) > 5 else None,
    )


def _without_secrets(shape: Shape | None, value: Any) -> Any:  # Any: a value has whatever type its shape has
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
