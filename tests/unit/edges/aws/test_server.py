"""The whole path of a request, called in process and by unmodified AWS clients over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from emberbox.edges import asgi
from emberbox.edges.aws import http
from emberbox.edges.aws.http import BODY_LIMIT, HttpRequest
from emberbox.edges.aws.server import create_api
from emberbox.edges.connection_guard import GuardLimits
from emberbox.model.caller import Caller
from emberbox.model.errors import HostError, NotFoundError, ServiceError, ThrottlingError
from support.waiting import wait_for_async
from support.wire import FIND_KEY, KEY, REGION, as_http, call, sign, signed_operation

ARN = "arn:aws:lambda:us-east-1:123456789012:microvm-image:web"
STARTED = datetime(2026, 7, 25, 17, 20, tzinfo=UTC)


class Calls:
    """Handlers that answer from what they were asked, and remember it."""

    def __init__(self) -> None:
        self.seen: list[tuple[Caller, dict[str, Any]]] = []

    async def get_microvm(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((caller, parameters))
        match parameters["microvmIdentifier"]:
            case "missing":
                raise NotFoundError("MicroVM not found: missing", resourceId="missing")
            case "busy":
                raise ThrottlingError("slow down")
            case "broken":
                raise HostError("the disk with the secret plans is full")
            case "odd":
                raise type("OddError", (ServiceError,), {"code": "OddException"})("secret plans")
            case "misfit":
                return {"noSuchMember": "secret plans"}
        return {"microvmId": parameters["microvmIdentifier"], "state": "RUNNING", "startedAt": STARTED}

    async def list_tags(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((caller, parameters))
        return {"Tags": {"resource": parameters["Resource"]}}

    async def tag_resource(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((caller, parameters))
        return {}

    async def create_log_group(self, caller: Caller, parameters: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((caller, parameters))
        return {}


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def app(calls: Calls) -> Any:
    microvms = {
        "GetMicrovm": calls.get_microvm,
        "ListTags": calls.list_tags,
        "TagResource": calls.tag_resource,
    }
    return create_api(
        {"lambda-microvms": microvms, "logs": {"CreateLogGroup": calls.create_log_group}}, FIND_KEY, REGION
    )


def get_microvm(identifier: str) -> HttpRequest:
    return signed_operation("lambda-microvms", "GetMicrovm", {"microvmIdentifier": identifier})


async def test_a_signed_request_reaches_its_handler(app: Any, calls: Calls) -> None:
    answer = await call(app, get_microvm("m-1"))
    assert answer.status == 200
    body = json.loads(answer.body)
    assert (body["microvmId"], body["startedAt"], body["stateReason"]) == ("m-1", 1785000000.0, None)
    caller, parameters = calls.seen[0]
    assert parameters == {"microvmIdentifier": "m-1"}
    request_id = answer.headers["x-amzn-requestid"]
    assert caller == Caller("123456789012", "AKIDEXAMPLE", REGION, request_id, "192.0.2.1")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id)
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_a_body_may_come_in_pieces(app: Any, calls: Calls) -> None:
    request = signed_operation("lambda-microvms", "TagResource", {"Resource": ARN, "Tags": {"a": "b"}})
    answer = await call(app, request, chunks=5)
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers
    assert calls.seen[0][1] == {"Resource": ARN, "Tags": {"a": "b"}}


@pytest.mark.parametrize(
    ("identifier", "status", "code"),
    [("missing", 404, "ResourceNotFoundException"), ("busy", 429, "ThrottlingException")],
)
async def test_errors_of_the_service_keep_their_code(app: Any, identifier: str, status: int, code: str) -> None:
    answer = await call(app, get_microvm(identifier))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (status, code)


@pytest.mark.parametrize("identifier", ["broken", "odd", "misfit"])
async def test_our_own_faults_show_only_the_request_id(
    app: Any, identifier: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await call(app, get_microvm(identifier))
    request_id = answer.headers["x-amzn-requestid"]
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (500, "InternalServerException")
    assert request_id in json.loads(answer.body)["message"]
    assert b"secret" not in answer.body
    failure = next(record for record in caplog.records if record.levelno >= logging.ERROR)
    assert request_id in failure.getMessage()
    assert failure.exc_info is not None


async def test_a_credential_source_that_fails_is_an_internal_error(calls: Calls) -> None:
    def find(access_key_id: str, token: str | None) -> None:
        raise OSError("the secret store is gone")

    answer = await call(create_api({}, find, REGION), get_microvm("m"))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (500, "InternalServerException")
    assert b"secret" not in answer.body


async def test_constraints_are_checked_before_the_handler(app: Any, calls: Calls) -> None:
    request = signed_operation("lambda-microvms", "TagResource", {"Resource": "web", "Tags": {"a": "b"}})
    answer = await call(app, request)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "ValidationException")
    assert json.loads(answer.body)["message"].startswith("1 validation error detected: Value 'web' at 'resource'")
    assert calls.seen == []


async def test_a_stranger_learns_nothing_about_the_routes(app: Any) -> None:
    answers = [
        await call(app, HttpRequest("GET", path, "", (("host", "x"),), b""))
        for path in ("/2025-09-09/microvms", "/no/such/route")
    ]
    assert {(answer.status, answer.headers["x-amzn-errortype"], answer.body) for answer in answers} == {
        (403, "MissingAuthenticationTokenException", b'{"message":"Missing Authentication Token"}')
    }


async def test_an_unknown_route_is_404_once_signed(app: Any) -> None:
    answer = await call(app, as_http(sign(AWSRequest("GET", "http://emberbox.test/2025-09-09/nothing"))))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
    assert answer.body == b'{"message":null}'


async def test_a_signature_for_logs_does_not_open_lambda(app: Any, calls: Calls) -> None:
    request = AWSRequest("GET", "http://emberbox.test/2025-09-09/microvms/m")
    answer = await call(app, as_http(sign(request, service="logs")))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    assert calls.seen == []


async def test_json_1_1_is_found_by_its_target(app: Any, calls: Calls) -> None:
    answer = await call(app, signed_operation("logs", "CreateLogGroup", {"logGroupName": "/aws/x"}))
    assert (answer.status, answer.body) == (200, b"")
    assert calls.seen[0][1] == {"logGroupName": "/aws/x"}
    bad = await call(app, signed_operation("logs", "CreateLogGroup", {"logGroupName": "?"}))
    assert (bad.status, json.loads(bad.body)["__type"]) == (400, "InvalidParameterException")


async def test_a_body_over_the_limit_is_refused(app: Any) -> None:
    request = replace(get_microvm("m"), body=b" " * (BODY_LIMIT + 1))
    answer = await call(app, request, chunks=7)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    at_limit = await call(app, replace(request, body=b" " * BODY_LIMIT), chunks=7)
    assert at_limit.headers["x-amzn-errortype"] == "InvalidSignatureException"


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("megabytes", "taken"), [(8, 8), (1000, 61)])
async def test_an_oversized_body_is_read_to_its_end_but_not_for_ever(
    app: Any, megabytes: int, taken: int, *, signed: bool
) -> None:
    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": megabyte, "more_body": received < megabytes}

    async def send(event: Any) -> None:
        sent.append(event)

    megabyte, sent = bytes(1 << 20), list[Any]()
    headers = [(name.encode(), value.encode()) for name, value in get_microvm("m").headers] if signed else []
    scope = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert (sent[0]["status"], received) == (413 if signed else 403, taken)


@pytest.mark.parametrize("path", ["/2025-09-09/microvms/a#b", "/a b", "/ü"])
async def test_a_path_that_no_client_may_send_is_refused(app: Any, path: str) -> None:
    answer = await call(app, replace(get_microvm("m"), raw_path=path))
    assert (answer.status, answer.body) == (400, b'{"message":null}')


class Trickle:
    """A body of which some megabytes come, in pieces as uvicorn gives them, and then no more."""

    def __init__(self, megabytes: int) -> None:
        self.left = megabytes * 16
        self.stopped = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.left:
            self.stopped.set()
            await asyncio.Event().wait()
        self.left -= 1
        return {"type": "http.request", "body": bytes(1 << 16), "more_body": True}


def scope_of(request: HttpRequest) -> dict[str, Any]:
    headers = [(name.encode(), value.encode()) for name, value in request.headers]
    return {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": headers}


async def hold(app: Any, headers_of: HttpRequest, count: int) -> tuple[int, list[asyncio.Task[None]], list[Any]]:
    """Send so many requests of which five megabytes come and the rest does not; return what they hold in memory."""
    answers: list[Any] = []

    async def send(event: Any) -> None:
        answers.append(event)

    trickles = [Trickle(5) for _ in range(count)]
    tracemalloc.start()
    try:
        tasks = [asyncio.create_task(app(scope_of(headers_of), each.receive, send)) for each in trickles]
        for each in trickles:
            await each.stopped.wait()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return held, tasks, answers


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_bodies_of_strangers_are_not_kept(app: Any) -> None:
    held, tasks, _ = await hold(app, replace(get_microvm("m"), headers=()), 80)
    assert held < 8 << 20
    await end(tasks)


async def test_bodies_with_a_known_key_have_a_room_for_all_together(app: Any, calls: Calls) -> None:
    """The key's id is no secret. Who sends little, as nearly every request does, is not in anybody's way."""
    held, tasks, _ = await hold(app, get_microvm("m"), 80)
    assert held < http.ROOM_BYTES + (16 << 20)
    assert (await call(app, get_microvm("m-1"))).status == 200
    await end(tasks)
    assert app._room._left == http.ROOM_BYTES
    big = signed_operation("lambda-microvms", "TagResource", {"Resource": ARN, "Tags": {"a": "b" * 250}})
    assert (await call(app, replace(big, body=b" " * BODY_LIMIT))).status == 403  # it was read, and not signed


async def test_who_finds_no_room_is_told_to_try_again(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_room", http.BodyRoom(1 << 20))
    answer = await call(app, replace(get_microvm("m"), body=bytes(3 << 20)), chunks=3)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (503, "ServiceUnavailableException")
    assert app._room._left == 1 << 20


@pytest.mark.parametrize("known", [True, False])
async def test_a_body_that_does_not_come_holds_nothing_in_the_end(app: Any, *, known: bool) -> None:
    """The server hangs up on such a client."""
    request = get_microvm("m") if known else replace(get_microvm("m"), headers=())
    headers = [f"{name}: {value}\r\n".encode() for name, value in request.headers]
    with socket.create_server(("127.0.0.1", 0)) as bound:
        limits = GuardLimits(request_s=0.3, sweep_s=0.05)
        async with asgi.serve(app, bound, 60, limits=limits):
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            writer.write(b"POST /x HTTP/1.1\r\n" + b"".join(headers) + b"content-length: 6000000\r\n\r\n")
            writer.write(bytes(5_000_000))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await wait_for_async("it holds nothing", lambda: app._room._left == http.ROOM_BYTES)


async def test_health_needs_no_signature(app: Any) -> None:
    answer = await call(app, HttpRequest("GET", "/health", "", (), b""))
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


async def test_nothing_is_sent_to_a_client_that_hung_up(app: Any) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert sent == []


@pytest.mark.parametrize(
    "handlers",
    [{"lambda-microvms": {"NoSuch": None}}, {"s3": {"ListBuckets": None}}],
    ids=["operation", "service"],
)
def test_a_handler_for_nothing_is_refused_at_start(handlers: Any) -> None:
    with pytest.raises(ValueError, match="has no operation"):
        create_api(handlers, FIND_KEY, REGION)


class Served:
    """The application on a loopback port, counting requests."""

    def __init__(self, app: Any) -> None:
        self.requests = 0
        self._app = app
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self._count, interface="asgi3", log_config=None))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([self._socket])))

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += scope["type"] == "http"
        await self._app(scope, receive, send)

    def __enter__(self) -> Served:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def client(self, service: str = "lambda-microvms", **config: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY.access_key_id,
            aws_secret_access_key=KEY.secret_access_key,
            config=Config(**config),
        )


@pytest.fixture
def served(app: Any) -> Iterator[Served]:
    with Served(app) as running:
        yield running


def test_boto3_gets_a_microvm(served: Served) -> None:
    answer = served.client().get_microvm(microvmIdentifier="m 1/ü:%2F")
    assert (answer["microvmId"], answer["startedAt"]) == ("m 1/ü:%2F", STARTED)
    assert "stateReason" not in answer


def test_boto3_puts_arns_in_the_path(served: Served, calls: Calls) -> None:
    client = served.client()
    assert client.list_tags(Resource=ARN)["Tags"] == {"resource": ARN}
    client.tag_resource(Resource=ARN, Tags={"a": "é"})
    assert calls.seen[-1][1] == {"Resource": ARN, "Tags": {"a": "é"}}
    assert calls.seen[-1][0].source_ip == "127.0.0.1"


def test_boto3_speaks_json_1_1_to_the_same_port(served: Served, calls: Calls) -> None:
    served.client("logs").create_log_group(logGroupName="/aws/lambda-microvms/web")
    assert calls.seen[0][1] == {"logGroupName": "/aws/lambda-microvms/web"}


def test_boto3_raises_the_modelled_exception(served: Served) -> None:
    client = served.client()
    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_microvm(microvmIdentifier="missing")
    assert caught.value.response["Error"] == {
        "Message": "MicroVM not found: missing",
        "Code": "ResourceNotFoundException",
    }
    assert caught.value.response["resourceId"] == "missing"


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_boto3_does_not_repeat_what_is_not_supported(served: Served, mode: str) -> None:
    client = served.client(retries={"mode": mode, "max_attempts": 3})
    with pytest.raises(ClientError) as caught:
        client.list_microvms()
    assert caught.value.response["Error"] == {
        "Code": "NotImplementedException",
        "Message": "ListMicrovms is not supported yet by Emberbox",
    }
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert served.requests == 1


def test_a_presigned_url_from_boto3_works(served: Served) -> None:
    url = served.client().generate_presigned_url("list_tags", {"Resource": ARN})
    with urllib.request.urlopen(url) as answer:
        assert json.loads(answer.read()) == {"Tags": {"resource": ARN}}


def test_the_aws_command_line_works(served: Served, tmp_path: Path) -> None:
    aws = Path(sys.executable).parent / "aws"
    keys = {"AWS_ACCESS_KEY_ID": KEY.access_key_id, "AWS_SECRET_ACCESS_KEY": KEY.secret_access_key}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_DEFAULT_REGION": REGION, **keys}
    command = [aws, "--endpoint-url", served.url, "lambda-microvms", "list-tags", "--resource", ARN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"Tags": {"resource": ARN}}
