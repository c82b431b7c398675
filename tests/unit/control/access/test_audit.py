"""The audit trail: what is in a record, what never is, and how the files are kept."""

from __future__ import annotations

import errno
import io
import itertools
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emberbox.control.access import audit
from emberbox.control.access.audit import AuditTrail
from emberbox.edges.aws.http import HttpRequest
from emberbox.model.iam.access import Credential, PrincipalKind
from emberbox.model.iam.audit import AuditRecord, KnownSender, Stranger
from emberbox.spec.models import CORE, LOGS, MICROVMS
from emberbox.store.audit import AuditFiles, Place
from support.wire import signed_operation

from .access_world import OPERATOR, REGION, RefusedError, World, allow, as_key, start_world

FIRST = "111111111111"
KNOWN = KnownSender(PrincipalKind.USER, f"arn:aws:iam::{FIRST}:user/ann", FIRST, "AKIA", "ann", "")


def record_of(operation: str, sender: KnownSender | Stranger = KNOWN) -> AuditRecord:
    return AuditRecord(
        id="", happened_at=datetime.now(UTC), operation=operation, source="lambda.amazonaws.com", is_data=False,
        region=REGION, sender=sender, source_ip="", user_agent="", request_id="", read_only=True, status=200,
    )  # fmt: skip


async def last_record(world: World) -> dict[str, Any]:
    return (await world.records())[-1]


async def test_a_record_says_who_what_whence_and_how_it_ended(world: World) -> None:
    image = world.add_image(OPERATOR, "web")
    request = signed_operation(MICROVMS, "TagResource", {"Resource": image.arn, "Tags": {"a": "b"}}, world.admin)
    await world.send(replace(request, headers=(*request.headers, ("user-agent", "curl/8"))))
    record = await last_record(world)
    moment = datetime.fromisoformat(record.pop("eventTime"))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
    for name in ("eventID", "requestID"):
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", record.pop(name))
    assert record == {
        "eventVersion": "1.0",
        "eventName": "TagResource",
        "eventSource": "lambda.amazonaws.com",
        "eventCategory": "Management",
        "awsRegion": REGION,
        "recipientAccountId": OPERATOR,
        "userIdentity": {
            "type": "IAMUser",
            "arn": f"arn:aws:iam::{OPERATOR}:user/admin",
            "accountId": OPERATOR,
            "accessKeyId": world.admin.access_key_id,
            "userName": "admin",
        },
        "sourceIPAddress": "192.0.2.1",
        "userAgent": "curl/8",
        "readOnly": False,
        "httpStatus": 204,
        "resources": [{"ARN": image.arn, "accountId": OPERATOR, "type": "AWS::Lambda::MicrovmImage"}],
        "requestParameters": {"Resource": image.arn, "Tags": {"a": "b"}},
        "responseElements": None,
    }


async def test_refused_requests_are_recorded_with_code_and_text(world: World) -> None:
    user = await world.new_user(world.admin, "ann", allow("lambda:GetMicrovm"))
    stranger = Credential("AKIAUNKNOWNUNKNOWN00", "x", OPERATOR)
    calls: list[tuple[Credential, str, str, dict[str, Any]]] = [
        (user, MICROVMS, "GetMicrovm", {"microvmIdentifier": "microvm-x"}),
        (user, MICROVMS, "ListMicrovms", {}),
        (user, LOGS, "DescribeLogGroups", {}),
        (user, MICROVMS, "ListMicrovms", {"maxResults": 51}),
        (stranger, MICROVMS, "ListMicrovms", {}),
        (world.admin, CORE, "ListRuntimes", {}),
    ]
    for key, service, operation, parameters in calls:
        with pytest.raises(RefusedError):
            await world.call(key, operation, service, **parameters)
    with pytest.raises(RefusedError):
        await world.send(HttpRequest("GET", "/", "", (("host", "x"),), b"", "192.0.2.9"))
    records = (await world.records())[-7:]
    assert [(record["eventName"], record.get("errorCode"), record["httpStatus"]) for record in records] == [
        ("GetMicrovm", "ResourceNotFoundException", 404),
        ("ListMicrovms", "AccessDeniedException", 403),
        ("DescribeLogGroups", "AccessDeniedException", 400),
        ("ListMicrovms", "ValidationException", 400),
        ("Unknown", "UnrecognizedClientException", 403),
        ("ListRuntimes", "NotImplementedException", 501),
        ("Unknown", "MissingAuthenticationTokenException", 403),
    ]
    assert records[1]["errorMessage"].startswith(f"User: arn:aws:iam::{OPERATOR}:user/ann is not authorized")
    assert records[4]["userIdentity"] == {"type": "Unknown", "accessKeyId": "AKIAUNKNOWNUNKNOWN00"}
    assert records[6]["userIdentity"] == {"type": "Unknown"}
    assert records[6]["sourceIPAddress"] == "192.0.2.9"


async def test_no_secret_is_ever_recorded(world: World) -> None:
    image = world.add_image(OPERATOR, "web")
    microvm = world.add_microvm(image)
    secrets = ["payload-secret", "variable-secret", "role-secret", "role-token"]
    with pytest.raises(RefusedError):
        await world.call(world.admin, "RunMicrovm", imageIdentifier=image.arn, runHookPayload=secrets[0])
    with pytest.raises(RefusedError):
        await world.call(
            world.admin,
            "CreateMicrovmImage",
            name="x",
            baseImageArn=image.arn,
            buildRoleArn=f"arn:aws:iam::{OPERATOR}:role/x",
            codeArtifact={"uri": "s3://a/b"},
            environmentVariables={"KEY": secrets[1]},
        )
    credentials = {"accessKeyId": "A" * 20, "secretAccessKey": secrets[2], "sessionToken": secrets[3]}
    await world.own(world.admin, "PutRole", roleName="x", credentials=credentials)
    token = await world.call(
        world.admin,
        "CreateMicrovmAuthToken",
        microvmIdentifier=microvm.id,
        expirationInMinutes=1,
        allowedPorts=[{"port": 80}],
    )
    user = await world.new_user(world.admin, "ann")
    session = as_key((await world.own(world.admin, "GetSessionToken"))["credentials"])
    await world.call(session, "ListMicrovms")
    secrets += [*token["authToken"].values(), user.secret_access_key, session.secret_access_key]
    secrets += [str(session.session_token), world.admin.secret_access_key]
    records = await world.records()
    text = json.dumps(records)
    assert [secret for secret in secrets if secret in text] == []
    shown = {record["eventName"]: record for record in records}
    assert shown["CreateAccessKey"]["responseElements"]["accessKey"]["accessKeyId"] == user.access_key_id
    assert shown["PutRole"]["requestParameters"]["credentials"] == {"accessKeyId": "A" * 20}
    assert shown["RunMicrovm"]["requestParameters"] == {"imageIdentifier": image.arn}
    assert shown["CreateMicrovmImage"]["requestParameters"]["codeArtifact"] == {"uri": "s3://a/b"}


async def test_an_assumed_role_is_told_apart_from_a_user(world: World) -> None:
    await world.own(world.admin, "PutRole", roleName="reader")
    assumed = await world.own(world.admin, "AssumeRole", roleName="reader", roleSessionName="job-1")
    with pytest.raises(RefusedError):
        await world.call(as_key(assumed["credentials"]), "ListMicrovms")
    identity = (await last_record(world))["userIdentity"]
    assert (identity["type"], identity["userName"], identity["sessionName"]) == ("AssumedRole", "reader", "job-1")
    assert identity["arn"] == f"arn:aws:sts::{OPERATOR}:assumed-role/reader/job-1"


async def test_an_account_sees_its_own_records_and_the_operator_all(world: World) -> None:
    first = await world.new_account(FIRST)
    await world.call(first, "ListMicrovms")
    own = (await world.own(first, "LookupAuditEvents"))["events"]
    assert [event["eventName"] for event in own] == ["ListMicrovms"]
    everything = (await world.own(world.admin, "LookupAuditEvents"))["events"]
    names = [event["eventName"] for event in everything]
    assert names == ["CreateAccount", "ListMicrovms", "LookupAuditEvents"]
    assert json.loads(everything[1]["auditEvent"])["recipientAccountId"] == FIRST


async def test_records_are_found_by_name_user_code_and_time(world: World) -> None:
    user = await world.new_user(world.admin, "ann")
    with pytest.raises(RefusedError):
        await world.call(user, "ListMicrovms")
    await world.call(world.admin, "ListMicrovms")

    async def names(**filters: Any) -> list[str]:
        found = (await world.own(world.admin, "LookupAuditEvents", **filters))["events"]
        return [f"{event['eventName']} by {event['username']}" for event in found]

    assert await names(eventName="ListMicrovms") == ["ListMicrovms by ann", "ListMicrovms by admin"]
    assert await names(username="ann") == ["ListMicrovms by ann"]
    assert await names(errorCode="AccessDeniedException") == ["ListMicrovms by ann"]
    assert await names(endTime=datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert await names(startTime=datetime(2099, 1, 1, tzinfo=UTC)) == []
    assert len(await names(startTime=datetime(2020, 1, 1, tzinfo=UTC), username="admin")) > 2


async def test_pages_go_on_where_the_last_one_ended_and_later_too(world: World) -> None:
    for _ in range(3):
        await world.call(world.admin, "ListMicrovms")
    wanted = {"eventName": "ListMicrovms"}
    first = await world.own(world.admin, "LookupAuditEvents", maxResults=2, **wanted)
    assert len(first["events"]) == 2
    second = await world.own(world.admin, "LookupAuditEvents", nextToken=first["nextToken"], **wanted)
    third = await world.own(world.admin, "LookupAuditEvents", nextToken=second["nextToken"], **wanted)
    assert (len(second["events"]), third["events"]) == (1, [])
    assert (first["atEnd"], second["atEnd"], third["atEnd"]) == (False, True, True)
    await world.call(world.admin, "ListMicrovms")
    fourth = await world.own(world.admin, "LookupAuditEvents", nextToken=third["nextToken"], **wanted)
    assert len(fourth["events"]) == 1
    with pytest.raises(RefusedError, match="Invalid nextToken"):
        await world.own(world.admin, "LookupAuditEvents", nextToken="x")


def test_files_are_followed_by_new_ones_and_the_oldest_go(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", file_bytes=100, files_max=3)
    lines = [f"line {number:04}" for number in range(100)]
    for line in lines:
        files.append([line])
    kept = sorted((tmp_path / "audit").iterdir())
    assert len(kept) == 3
    assert all(path.stat().st_size <= 110 for path in kept)
    read = [line.strip() for line, _ in files.read(Place())]
    assert read == lines[-len(read) :]
    assert len(read) >= 20


def test_reading_goes_on_over_the_end_of_a_file(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", file_bytes=50, files_max=100)
    seen, place = list[str](), Place()
    for number in range(30):
        files.append([f"line {number}", f"more {number}"])
        for line, behind in itertools.islice(files.read(place), number % 4):
            seen.append(line.strip())
            place = behind
    seen += [line.strip() for line, _ in files.read(place)]
    assert seen == [f"{word} {number}" for number in range(30) for word in ("line", "more")]


def test_half_a_line_of_a_killed_server_harms_no_other(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", 1 << 20, 3)
    files.append(["whole"])
    path = next((tmp_path / "audit").iterdir())
    with path.open("a") as file:
        file.write('{"eventName": "Ha')
    assert [line for line, _ in files.read(Place())] == ["whole\n"]
    again = AuditFiles(tmp_path / "audit", 1 << 20, 3)
    again.append(["next"])
    assert path.read_text().splitlines() == ["whole", '{"eventName": "Ha', "next"]


async def test_half_a_line_is_passed_over_when_looking_up(tmp_path: Path) -> None:
    async with start_world(tmp_path) as world:
        await world.call(world.admin, "ListMicrovms")
        await world.records()
    with next((tmp_path / "audit").iterdir()).open("a") as file:
        file.write('{"eventName": "Ha')
    async with start_world(tmp_path) as world:
        events = (await world.own(world.admin, "LookupAuditEvents"))["events"]
        assert [event["eventName"] for event in events] == ["ListMicrovms"]


class FullDisk(AuditFiles):
    """Files on a disk that is full until told otherwise."""

    is_full = True

    def append(self, lines: Any) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().append(lines)


async def test_a_full_disk_keeps_records_waiting_and_says_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "PENDING_MAX", 3)
    files = FullDisk(tmp_path / "audit", 1 << 20, 3)
    trail = AuditTrail(files)
    for number in range(3):
        trail.add(record_of(f"E{number}"))
    await trail.flush()
    for number in range(3, 5):
        trail.add(record_of(f"E{number}"))
    await trail.flush()
    files.is_full = False
    trail.add(record_of("E5"))
    await trail.flush()
    read = [json.loads(line) for line, _ in files.read(Place())]
    assert [record["eventName"] for record in read] == ["AuditRecordsLost", "E2", "E3", "E4", "E5"]
    assert (read[0]["reason"], read[0]["count"]) == ("the disk took no more", 2)
    assert len([record for record in caplog.records if "cannot be written yet" in record.getMessage()]) == 1


async def test_strangers_cannot_push_out_the_records_of_others(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", 1 << 20, 3)
    trail = AuditTrail(files)
    for number in range(100):
        trail.add(record_of(f"E{number}", Stranger()))
    trail.add(record_of("known"))
    await trail.flush()
    trail.add(record_of("later", Stranger()))
    await trail.flush()
    read = [json.loads(line) for line, _ in files.read(Place())]
    names = [record["eventName"] for record in read]
    assert names == ["AuditRecordsLost", *(f"E{number}" for number in range(5)), "known", "later"]
    assert (read[0]["reason"], read[0]["count"]) == ("too many requests of unknown senders", 95)


async def test_closing_writes_what_is_left(tmp_path: Path) -> None:
    files = AuditFiles(tmp_path / "audit", 1 << 20, 3)
    trail = AuditTrail(files)
    trail.start()
    for number in range(1000):
        trail.add(record_of(f"E{number}"))
    await trail.close()
    assert sum(1 for _ in files.read(Place())) == 1000


def test_a_trail_with_half_a_line_opens_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room to end the line, so it goes; the lines before it stay."""

    class OnFullDisk(io.FileIO):
        def write(self, _content: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "audit-1.jsonl"
    path.write_bytes(b'{"whole": 1}\n{"ha')
    monkeypatch.setattr(Path, "open", lambda self, mode, **_: OnFullDisk(self, mode.replace("b", "")))
    AuditFiles(tmp_path, 1000, 2)
    assert path.read_bytes() == b'{"whole": 1}\n'
