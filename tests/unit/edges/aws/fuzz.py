"""Requests that Hypothesis makes from the service models, valid and broken, and what must hold of every answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from emberbox.edges.aws.errors import UnknownOperationError
from emberbox.edges.aws.http import Answer
from emberbox.edges.aws.routing import Router
from emberbox.model.records import LogGroup
from emberbox.model.states import BuildState, ConnectorState, ImageState, MicrovmState, VersionState
from emberbox.spec.models import CORE, LOGS, MICROVMS, SERVICES, load_operation, load_service
from support.aws import WIRE_CODES
from support.control_plane import ROLE, ControlPlane
from support.wire import KEY, REGION, as_http, botocore_request, call, sign

from .limits import SEEDS

UNSETTLED_IMAGES = {ImageState.CREATING, ImageState.UPDATING, ImageState.DELETING}
ENOUGH_IMAGES = 40
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


BREAKS = st.one_of(
    st.tuples(st.just("body"), st.binary(max_size=60)),
    st.tuples(st.just("json"), JSON_VALUES),
    st.tuples(st.just("member"), st.tuples(st.integers(0, 20), JSON_VALUES)),
    st.tuples(st.just("method"), st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"])),
    st.tuples(st.just("path"), st.sampled_from(["/", "/x", "//", "/%2F", "/..", "%00", "/versions", "/builds"])),
    st.tuples(st.just("query"), st.sampled_from(["maxResults=x", "maxResults=", "=", "a", "State=x", "&&"])),
)


@dataclass(frozen=True)
class Reference:
    """A place in a pool of known names; what is there changes as answers come in."""

    pool: str
    number: int


@dataclass(frozen=True)
class Plan:
    """A request to be made: service and operation, parameters with references, and how it is broken, if at all."""

    operation: tuple[str, str]
    parameters: dict[str, Any]
    broken: tuple[str, Any] | None


class Fuzzer:
    """Sends requests to a control plane and holds each answer, and in the end every row, against what must be.

    Args:
        plane: an open control plane; the fuzzer makes some images, microVMs and connectors in it.
        runner: runs the coroutines; the plane was opened in it.
    """

    def __init__(self, plane: ControlPlane, runner: asyncio.Runner) -> None:
        self.plane = plane
        self._runner = runner
        self._app = plane.app()
        self._router = Router(SERVICES)
        self._complaints = _Complaints()
        logging.getLogger("emberbox").addHandler(self._complaints)
        handlers = plane.handlers()
        self.operations = [(service, name) for service in (MICROVMS, CORE, LOGS) for name in handlers[service]]
        self.operations += [("lambda-core", "ListRuntimes"), ("logs", "TagLogGroup")]
        self.answered: dict[tuple[str, int], int] = {}
        image = plane.add_image("good", versions=3)
        microvms = [plane.add_microvm(image, state) for state in (MicrovmState.TERMINATED, MicrovmState.SUSPENDED)]
        plane.logs.append(
            LogGroup(plane.credential.account_id, "/aws/lambda-microvms/good"), "stream", [(1, "one"), (2, "two")]
        )
        self._pools: dict[str, list[str]] = {
            "imageIdentifier": [image.arn, image.arn, image.arn.replace(":good", ":made"), f"{image.arn}-missing"],
            "imageVersion": ["1.0", "2.0", "3.0", "4.0", "1"],
            "microvmIdentifier": [*(microvm.id for microvm in microvms), "microvm-none"],
            "Resource": [image.arn, f"{image.arn}-missing"],
            "name": ["made", "made-too", "good"],
            "Name": ["connector", "connector-too"],
            "Identifier": ["connector", "connector-too", "nc-missing"],
            "baseImageArn": [f"arn:aws:lambda:{plane.region}:aws:microvm-image:debian12-1"],
            "baseImageVersion": ["1", "1.0"],
            "buildRoleArn": [ROLE],
            "OperatorRole": [ROLE],
            "executionRoleArn": [ROLE],
            "uri": ["s3://code/key"],
            "SubnetIds": ["subnet-office", "subnet-lab", "subnet-none"],
            "SecurityGroupIds": ["sg-web", "sg-none", "sg-missing"],
            "logGroupName": ["/aws/lambda-microvms/good", "missing"],
            "logStreamName": ["stream", "missing"],
            "egressNetworkConnectors": [f"arn:aws:lambda:{plane.region}:aws:network-connector:none"],
            "nextToken": ["nonsense"],
            "Marker": ["nonsense"],
        }

    # --- making requests

    def plans(self) -> st.SearchStrategy[Plan]:
        """Return requests of any operation: most are in the model's types, some are broken on the wire."""
        return st.sampled_from(self.operations).flatmap(self._of_operation)

    def _of_operation(self, operation: tuple[str, str]) -> st.SearchStrategy[Plan]:
        shape = load_operation(*operation).input_shape
        parameters = st.just({}) if shape is None else self._value("", shape)
        return st.builds(Plan, st.just(operation), parameters, st.none() | st.none() | st.none() | BREAKS)

    def _make(self, plan: Plan) -> AWSRequest:
        model = load_operation(*plan.operation)
        request = botocore_request(model, self._resolve(plan.parameters))
        return request if plan.broken is None else _broken(request, *plan.broken)

    def _resolve(self, value: Any) -> Any:
        """Put what is known at the moment in the place of references."""
        match value:
            case Reference(pool, number):
                known = self._pools.get(pool) or list(SEEDS)
                return known[number % len(known)]
            case dict():
                return {self._resolve(key): self._resolve(item) for key, item in value.items()}
            case list():
                return [self._resolve(item) for item in value]
        return value

    def _value(self, name: str, shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
        match shape.type_name:
            case "structure":
                return self._structure(shape, depth)
            case "list":
                low, high = int(shape.metadata.get("min") or 0), int(shape.metadata.get("max") or 3)
                return st.lists(
                    self._value(name, shape.member, depth + 1), min_size=low, max_size=max(low, min(high, 3))
                )
            case "map":
                key, value = (self._value(name, inner, depth + 1) for inner in (shape.key, shape.value))
                return st.dictionaries(key, value, max_size=3)
            case "string":
                return self._string(name, shape)
            case "boolean":
                return st.booleans()
            case "blob":
                return st.binary(max_size=20)
            case "timestamp":
                return st.integers(0, 4_000_000_000)
        low, high = int(shape.metadata.get("min") or 0), int(shape.metadata.get("max") or 1 << 31)
        return st.one_of(st.integers(low, high), st.sampled_from([low - 1, high + 1, 0, 1, 512, 2048]), st.integers())

    def _structure(self, shape: Shape, depth: int) -> st.SearchStrategy[dict[str, Any]]:
        members = {name: self._value(name, member, depth + 1) for name, member in shape.members.items() if depth < 7}
        if shape.metadata.get("union") and members:
            return st.one_of(*(st.fixed_dictionaries({name: value}) for name, value in members.items()))
        located = {name for name, member in shape.members.items() if member.serialization.get("location") == "uri"}
        needed = set(shape.required_members) | located
        required = {name: value for name, value in members.items() if name in needed}
        optional = {name: value for name, value in members.items() if name not in needed}
        return st.fixed_dictionaries(required, optional=optional)

    def _string(self, name: str, shape: Shape) -> st.SearchStrategy[Any]:
        if shape.enum:
            return st.sampled_from([*shape.enum, *shape.enum, "NO_SUCH_VALUE"])
        known = st.builds(Reference, st.just(name), st.integers(0, 30))
        return known | known | known | st.text(min_size=1, max_size=40)

    # --- sending them

    def send(self, plan: Plan) -> None:
        """Make, sign and send a request, and hold the answer against what must be."""
        service, name = plan.operation
        signed = sign(self._make(plan), service=load_service(service).signing_name)
        sent = as_http(signed)
        answer = self._runner.run(call(self._app, sent))
        complaint = self._complaints.take()
        assert not complaint, f"{name}: {complaint}"
        try:
            name = (match := self._router.match(sent)).name
            check_answer(match.operation, answer)
        except UnknownOperationError:
            assert answer.status in (400, 403, 404), (answer.status, answer.body[:200])
        self.answered[name, answer.status] = self.answered.get((name, answer.status), 0) + 1
        self._learn(name, answer)

    def _learn(self, name: str, answer: Answer) -> None:
        """Remember what an answer names, so that later requests are about it."""
        if answer.status >= 300 or not answer.body:
            return
        body = json.loads(answer.body)
        for member, pool in (("nextToken", "nextToken"), ("NextMarker", "Marker"), ("microvmId", "microvmIdentifier")):
            if body.get(member):
                self._pools[pool] = [*self._pools[pool][-9:], body[member]]
        if name == "CreateNetworkConnector":
            for pool in ("Identifier", "Resource", "egressNetworkConnectors"):
                self._pools[pool] = [*self._pools[pool][-9:], body["Arn"]]

    # --- what must hold in the end

    def check_rows(self) -> None:
        """Wait until all has settled, and look for anything half-made."""
        self._runner.run(self.plane.settle())
        images = self.plane.images.list_in_state(*ImageState)
        assert not [image for image in images if image.state in UNSETTLED_IMAGES], "an image never settles"
        for image in images:
            versions = self.plane.images.list_versions(image.id)
            assert versions, f"{image.name} has no version"
            for version in versions:
                assert version.state not in (VersionState.PENDING, VersionState.IN_PROGRESS, VersionState.DELETING)
                builds = self.plane.images.list_builds(image.id, version.version)
                assert builds, f"{image.name} {version.version} has no build"
                assert all(build.state in (BuildState.SUCCESSFUL, BuildState.FAILED) for build in builds)
        for connector in self.plane.connectors.list_page(self.plane.credential.account_id, 10_000, None):
            assert connector.state not in (ConnectorState.PENDING, ConnectorState.DELETING)
            versions_of = self.plane.connectors.list_versions(connector.id)
            assert connector.latest_version in [version.version for version in versions_of]
        live = self.plane.microvms.list_live()
        assert all(microvm.state is MicrovmState.SUSPENDED for microvm in live), "a microVM never ends"
        assert not list((self.plane.directory / "builds").iterdir()), "a build left its scratch files"


def check_answer(model: OperationModel, answer: Answer) -> None:
    """Hold an answer against the model: the shape of a success, the code of a refusal; never a 5xx, never a trace."""
    told = answer.body[:500]
    assert answer.status < 500 or answer.status == 501, (model.name, answer.status, told)
    assert b"Traceback" not in answer.body, told
    assert answer.headers.get("x-amzn-requestid"), model.name
    body = json.loads(answer.body) if answer.body else {}
    if answer.status >= 300:
        code = answer.headers.get("x-amzn-errortype") or body.get("__type")
        assert code in {shape.name for shape in model.error_shapes} | WIRE_CODES, (model.name, code, told)
        return
    if model.output_shape is not None:
        parser = create_parser(model.service_model.metadata["protocol"])
        response = {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.body}
        parsed: Mapping[str, Any] = parser.parse(response, model.output_shape)
        values = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        report = ParamValidator().validate(values, model.output_shape)
        assert not report.has_errors(), f"{model.name}: {report.generate_report()}"


def _broken(request: AWSRequest, kind: str, what: Any) -> AWSRequest:
    """Break a request: its body, its path, its method or its query string."""
    match kind:
        case "body":
            request.data = what
        case "json":
            request.data = json.dumps(what).encode()
        case "member":
            request.data = _with_other_member(request.data, *what)
        case "method":
            request.method = what
        case "path":
            request.url += what
        case "query":
            request.url += ("&" if "?" in request.url else "?") + what
    return request


def _with_other_member(body: Any, number: int, value: Any) -> bytes:
    try:
        members = json.loads(body or b"{}")
    except ValueError:
        members = {}
    names = sorted(members) or ["name"]
    members[names[number % len(names)]] = value
    return json.dumps(members).encode()


class _Complaints(logging.Handler):
    """Keeps what the server logs as an error: an answer may look well when something went wrong inside."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self._texts.append(self.format(record))

    def take(self) -> str:
        """Return what came since the last call."""
        texts, self._texts = self._texts, []
        return "\n".join(texts)


def run_fuzzer(directory: Path, examples: int) -> Fuzzer:
    """Send as many requests as asked for, then look at all rows."""
    with asyncio.Runner() as runner:
        plane = runner.run(ControlPlane(directory, KEY, REGION).open())
        fuzzer = Fuzzer(plane, runner)

        @settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )  # fmt: skip
        @given(fuzzer.plans())
        def send(plan: Plan) -> None:
            fuzzer.send(plan)

        try:
            send()
            fuzzer.check_rows()
        finally:
            runner.run(plane.close())
    return fuzzer
