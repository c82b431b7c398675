"""The audit trail's lines: the form that is in the files of every earlier release."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from emberbox.model.iam.access import PrincipalKind
from emberbox.model.iam.audit import AuditedResource, AuditGap, AuditRecord, KnownSender, Refusal, Stranger
from emberbox.store.audit_lines import read_line, write_line

MOMENT = datetime(2026, 11, 24, 1, 2, 3, 4, tzinfo=UTC)
ANN = KnownSender(PrincipalKind.USER, "arn:aws:iam::1:user/ann", "1", "AKIA1", "ann", "")
RECORD = AuditRecord(
    id="e-1",
    happened_at=MOMENT,
    operation="RunMicrovm",
    source="lambda.amazonaws.com",
    is_data=True,
    region="us-east-1",
    sender=ANN,
    source_ip="192.0.2.1",
    user_agent="aws-cli/2 é",
    request_id="r-1",
    read_only=False,
    status=200,
    resources=(AuditedResource("arn:a", "1", "AWS::Lambda::MicrovmImage"), AuditedResource("arn:b", "")),
    parameters={"startTime": MOMENT},
    answer={"items": []},
)
HEAD = (
    '{"eventVersion":"1.0","eventID":"e-1","eventTime":"2026-11-24T01:02:03.000004Z","eventName":"RunMicrovm",'
    '"eventSource":"lambda.amazonaws.com","eventCategory":"Data","awsRegion":"us-east-1",'
)
TAIL = (
    '"sourceIPAddress":"192.0.2.1","userAgent":"aws-cli/2 é","requestID":"r-1","readOnly":false,"httpStatus":200,'
    '"resources":[{"ARN":"arn:a","accountId":"1","type":"AWS::Lambda::MicrovmImage"},{"ARN":"arn:b","accountId":""}],'
    '"requestParameters":{"startTime":"2026-11-24 01:02:03.000004+00:00"},"responseElements":{"items":[]}'
)
IDENTITY = '"type":"%s","arn":"arn:aws:iam::1:user/ann","accountId":"1","accessKeyId":"AKIA1","userName":"ann"'


@pytest.mark.parametrize(
    ("sender", "who"),
    [
        (ANN, f'"recipientAccountId":"1","userIdentity":{{{IDENTITY % "IAMUser"}}},'),
        (
            replace(ANN, kind=PrincipalKind.ROLE, session_name="job"),
            f'"recipientAccountId":"1","userIdentity":{{{IDENTITY % "AssumedRole"},"sessionName":"job"}},',
        ),
        (Stranger(), '"recipientAccountId":null,"userIdentity":{"type":"Unknown"},'),
        (Stranger("AKIA9"), '"recipientAccountId":null,"userIdentity":{"type":"Unknown","accessKeyId":"AKIA9"},'),
    ],
)
def test_a_record_is_this_line(sender: KnownSender | Stranger, who: str) -> None:
    assert write_line(replace(RECORD, sender=sender)) == f"{HEAD}{who}{TAIL}}}"


@pytest.mark.parametrize(("message", "shown"), [("why", '"why"'), (None, "null")])
def test_a_refusal_comes_last(message: str | None, shown: str) -> None:
    line = write_line(replace(RECORD, refusal=Refusal("Denied", message), answer=None))
    assert line.endswith(f'"responseElements":null,"errorCode":"Denied","errorMessage":{shown}}}')


def test_a_gap_is_this_line() -> None:
    assert write_line(AuditGap(MOMENT, "why", 7)) == (
        '{"eventName":"AuditRecordsLost","eventTime":"2026-11-24T01:02:03.000004Z","eventSource":"emberbox",'
        '"reason":"why","count":7}'
    )


def test_what_was_written_is_read() -> None:
    line = write_line(replace(RECORD, refusal=Refusal("Denied", "why")))
    event = read_line(f"{line}\n")
    assert (event.id, event.operation, event.happened_at, event.line) == ("e-1", "RunMicrovm", MOMENT, line)
    assert (event.account_id, event.user_name, event.error_code) == ("1", "ann", "Denied")
    gap = read_line(write_line(AuditGap(MOMENT, "why", 7)))
    assert (gap.id, gap.account_id, gap.user_name, gap.error_code) == ("", None, None, None)


def test_half_a_line_is_told() -> None:
    with pytest.raises(json.JSONDecodeError):
        read_line(write_line(RECORD)[:100])
