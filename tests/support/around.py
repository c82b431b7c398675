"""Signed requests of services around to a control plane in process, and answers as botocore reads them."""

from __future__ import annotations

import json
from typing import Any

from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.model.iam.access import Credential
from emberbox.spec.models import CLOUDWATCH, EMBERBOX, load_operation, load_service
from support.control_plane import ControlPlane
from support.wire import KEY, REGION, as_http, call, sign, signed_operation

_CHOSEN = {CLOUDWATCH: "json"}
"""The protocol that boto3 speaks, where the model names another one first."""


def protocol_of(service: str) -> str:
    """Return the protocol that boto3 speaks with a service."""
    return _CHOSEN.get(service) or str(load_service(service).metadata["protocol"])


def around_request(
    service: str, operation: str, parameters: dict[str, Any], key: Credential, region: str = REGION
) -> HttpRequest:
    """Make the signed request for an operation."""
    model = load_operation(service, operation)
    serializer = create_serializer(protocol_of(service), include_validation=False)
    request = serializer.serialize_to_request(parameters, model)
    prepare_request_dict(request, endpoint_url="http://emberbox.test")
    signing_name = model.service_model.signing_name
    return as_http(sign(create_request_object(request), key, service=signing_name, region=region))


def read_answer(service: str, operation: str, answer: Answer) -> dict[str, Any]:
    """Return an answer as botocore reads it."""
    response = {"status_code": answer.status, "headers": answer.headers, "body": answer.body}
    shape = load_operation(service, operation).output_shape
    parsed: dict[str, Any] = create_parser(protocol_of(service)).parse(response, shape)
    return parsed


class Around:
    """A client of services around.

    Args:
        app: the API.
        key: signs.
    """

    def __init__(self, app: Any, key: Credential) -> None:
        self._app = app
        self._key = key

    def by(self, shown: dict[str, Any]) -> Around:
        """Return a client that signs with temporary credentials as STS shows them."""
        key = Credential(shown["AccessKeyId"], shown["SecretAccessKey"], "", shown["SessionToken"])
        return Around(self._app, key)

    @property
    def key(self) -> Credential:
        """What it signs with."""
        return self._key

    async def send(self, service: str, operation: str, **parameters: Any) -> Answer:
        """Send a request."""
        return await call(self._app, around_request(service, operation, parameters, self._key))

    async def ok(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send a request that must succeed; return what botocore reads."""
        answer = await self.send(service, operation, **parameters)
        assert answer.status == 200, answer.body
        return read_answer(service, operation, answer)

    async def refused(self, service: str, operation: str, **parameters: Any) -> tuple[int, str, str]:
        """Send a request that must be refused; return status, code and text as botocore reads them."""
        answer = await self.send(service, operation, **parameters)
        assert answer.status >= 300, answer.body
        error = read_answer(service, operation, answer)["Error"]
        return answer.status, error["Code"], error["Message"]


def allow(*actions: str, resource: str = "*") -> str:
    """Return a policy that allows actions."""
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def trust(principal: Any, **more: Any) -> str:
    """Return a trust policy of one statement."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def own(plane: ControlPlane, operation: str, key: Credential = KEY, **parameters: Any) -> dict[str, Any]:
    """Call an operation of Emberbox's own service, which must succeed."""
    answer = await call(plane.app(), signed_operation(EMBERBOX, operation, parameters, key))
    assert answer.status < 300, answer.body
    body: dict[str, Any] = json.loads(answer.body or b"{}")
    return body


async def new_user(plane: ControlPlane, name: str, *actions: str) -> Around:
    """Make a user who may do some actions on everything; return a client that signs for the user."""
    if actions:
        await own(plane, "PutPolicy", userName=name, policyName="p", policyDocument=allow(*actions))
    made = (await own(plane, "CreateAccessKey", userName=name))["accessKey"]
    return Around(plane.app(), Credential(made["accessKeyId"], made["secretAccessKey"], KEY.account_id))
