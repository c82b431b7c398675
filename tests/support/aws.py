"""Unmodified boto3 clients of a server, with every answer held against the service model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape
from botocore.validate import ParamValidator

from emberbox.cli.context import get_server
from emberbox.time_limits import limit_s
from support.server import Server

WIRE_CODES = {
    "AccessDeniedException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "NotImplementedException",
    "SerializationException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
}
"""Codes that AWS's front end gives for any operation."""


@dataclass(frozen=True)
class Clients:
    """The clients of one server."""

    microvms: Any
    core: Any
    logs: Any
    s3: Any
    emberbox: Any

    @classmethod
    def of(cls, server: Server) -> Clients:
        """Make them; they never retry, so that a test sees every error."""
        config = Config(
            retries={"total_max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
            read_timeout=limit_s(60),
        )
        common = {"config": config, **server.credentials()}
        api, s3 = server.endpoints["api_url"], server.endpoints["s3_url"]
        made = cls(
            boto3.client("lambda-microvms", endpoint_url=api, **common),
            boto3.client("lambda-core", endpoint_url=api, **common),
            boto3.client("logs", endpoint_url=api, **common),
            boto3.client("s3", endpoint_url=s3, **common),
            get_server(server.home).client("emberbox"),
        )
        for client in (made.microvms, made.core, made.logs, made.emberbox):
            name = client.meta.service_model.service_id.hyphenize()
            client.meta.events.register(f"after-call.{name}", check_answer)
        return made


def check_answer(http_response: Any, parsed: dict[str, Any], model: OperationModel, **_: Any) -> None:
    """Hold one answer against the model: its shape when it is a success, its code when it is an error."""
    if http_response.status_code >= 300:
        declared = {shape.name for shape in model.error_shapes}
        code = parsed["Error"]["Code"]
        assert code in declared | WIRE_CODES, f"{model.name} answers with the undeclared code {code}"
        assert parsed["ResponseMetadata"].get("RequestId"), f"{model.name}: an error without a request id"
        return
    if model.output_shape is None:
        return
    values = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
    report = ParamValidator().validate(values, model.output_shape)
    assert not report.has_errors(), f"{model.name}: {report.generate_report()}"
    problems = list(_wrong_enums(values, model.output_shape, model.name))
    assert not problems, problems


def _wrong_enums(value: Any, shape: Shape, path: str) -> list[str]:
    if value is None:
        return []
    if shape.type_name == "structure":
        named = ((name, value[name], member) for name, member in shape.members.items() if name in value)
        return [wrong for name, item, member in named for wrong in _wrong_enums(item, member, f"{path}.{name}")]
    if shape.type_name == "list":
        return [wrong for item in value for wrong in _wrong_enums(item, shape.member, f"{path}[]")]
    allowed = getattr(shape, "enum", None)
    return [f"{path} is {value!r}"] if allowed and value not in allowed else []


def refusal(call: Any, **parameters: Any) -> tuple[int, str, str]:
    """Return status, code and text of a call that must be refused."""
    try:
        answer = call(**parameters)
    except ClientError as error:
        details = error.response
        status = details["ResponseMetadata"]["HTTPStatusCode"]
        return status, details["Error"]["Code"], details["Error"].get("Message", "")
    raise AssertionError(f"it was not refused: {answer}")
