"""Values made from the service models, and requests made by botocore."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, create_request_object, prepare_request_dict
from botocore.credentials import Credentials
from botocore.model import OperationModel, Shape
from botocore.serialize import create_serializer

from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.model.iam.access import Credential
from emberbox.spec.models import SERVICES, load_operation, load_service, operation_names

REGION = "us-east-1"
KEY = Credential("AKIDEXAMPLE", "secret/Example+Key", "123456789012")
AWKWARD = "a b/ü%2F:+=&?#é中\"'\\"


def FIND_KEY(access_key_id: str, _token: str | None) -> Credential | None:  # noqa: N802 - it stands for a constant
    """A credential source that knows one key."""
    return KEY if access_key_id == KEY.access_key_id else None


def every_operation() -> list[tuple[str, str]]:
    """Return (service, operation) for everything the models define."""
    return [(service, name) for service in SERVICES for name in operation_names(service)]


def example(shape: Shape, rng: random.Random, depth: int = 0) -> Any:
    """Make a value of a shape's types with every member set; patterns are not looked at."""
    match shape.type_name:
        case "structure":
            members = list(shape.members.items())
            if shape.metadata.get("union"):
                members = [rng.choice(members)]
            return {name: example(member, rng, depth + 1) for name, member in members if depth < 12}
        case "list":
            size = max(1, shape.metadata.get("min") or 0)
            return [example(shape.member, rng, depth + 1) for _ in range(size)]
        case "map":
            return {example(shape.key, rng, depth + 1): example(shape.value, rng, depth + 1)}
        case "string":
            return rng.choice(shape.enum) if shape.enum else AWKWARD + str(rng.randrange(1000))
        case "integer" | "long":
            return rng.randrange(shape.metadata.get("min") or 0, 1 + (shape.metadata.get("max") or 100_000))
        case "boolean":
            return rng.choice([True, False])
        case "float" | "double":
            return rng.randrange(100) / 4
        case "blob":
            return rng.randbytes(9)
        case "timestamp":
            return datetime.fromtimestamp(rng.randrange(10**12, 2 * 10**12) / 1000, UTC)
    raise AssertionError(shape.type_name)


def reachable_shapes(shape: Shape | None, seen: dict[str, Shape]) -> dict[str, Shape]:
    """Collect a shape and all shapes inside it, by name."""
    if shape is None or shape.name in seen:
        return seen
    seen[shape.name] = shape
    match shape.type_name:
        case "structure":
            inner = list(shape.members.values())
        case "list":
            inner = [shape.member]
        case "map":
            inner = [shape.key, shape.value]
        case _:
            inner = []
    for one in inner:
        reachable_shapes(one, seen)
    return seen


def input_shapes() -> Iterator[Shape]:
    """Yield every shape that can be part of a request, once per service."""
    for service in SERVICES:
        seen: dict[str, Shape] = {}
        for name in operation_names(service):
            reachable_shapes(load_operation(service, name).input_shape, seen)
        yield from seen.values()


def botocore_request(operation: OperationModel, parameters: dict[str, Any]) -> AWSRequest:
    """Let botocore write the request for an operation."""
    serializer = create_serializer(operation.service_model.metadata["protocol"], include_validation=False)
    request = serializer.serialize_to_request(parameters, operation)
    prepare_request_dict(request, endpoint_url="http://emberbox.test")
    return create_request_object(request)


def as_http(request: AWSRequest) -> HttpRequest:
    """Turn botocore's request into what our server reads from the socket."""
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    headers = {"host": url.netloc, **{name.lower(): _text(value) for name, value in prepared.headers.items()}}
    body = prepared.body or b""
    body = body.encode() if isinstance(body, str) else bytes(body)
    return HttpRequest(prepared.method, url.path, url.query, tuple(headers.items()), body, "192.0.2.1")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def sign(request: AWSRequest, key: Credential = KEY, service: str = "lambda", region: str = REGION) -> AWSRequest:
    """Sign as a client does."""
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    SigV4Auth(credentials, service, region).add_auth(request)
    return request


def signed_operation(service: str, name: str, parameters: dict[str, Any], key: Credential = KEY) -> HttpRequest:
    """Make the signed request for an operation."""
    signing_name = load_service(service).signing_name
    return as_http(sign(botocore_request(load_operation(service, name), parameters), key, service=signing_name))


async def call(app: Any, request: HttpRequest, chunks: int = 1) -> Answer:
    """Send a request through an ASGI application, its body cut into chunks."""
    size = -(-len(request.body) // chunks) or 1
    parts = [request.body[i : i + size] for i in range(0, len(request.body), size)] or [b""]
    events = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return events.pop(0) if events else {"type": "http.disconnect"}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app(_scope(request), receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(event.get("body", b"") for event in sent[1:]))


def _scope(request: HttpRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "method": request.method,
        "path": request.raw_path,
        "raw_path": request.raw_path.encode(),
        "query_string": request.query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in request.headers],
        "client": (request.source_ip, 40000),
    }
