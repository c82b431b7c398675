"""One request: who asks, what for, and what it needs of policies."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from starlette.requests import HTTPConnection, Request

from emberbox.control.access.authorisation import AccessRequest, Permission
from emberbox.edges.sandboxes.api_keys import read_api_key
from emberbox.edges.sandboxes.errors import ApiError
from emberbox.model.arns import image_arn, managed_connector_arn
from emberbox.model.caller import Caller
from emberbox.model.iam.access import Credential
from emberbox.model.iam.audit import AuditRecord

BODY_BYTES_MAX: Final = 1 << 20
ANYTHING: Final = "*"
_PASS_CONNECTOR: Final = "lambda:PassNetworkConnector"  # noqa: S105 - an action

Json = dict[str, Any]  # Any: what a client sends is read member by member


class Resources(Protocol):
    """What is looked up to say what a request needs; see `control/access/resources.py`."""

    def image_of(self, account_id: str, microvm_id: str) -> str | None:
        """Return the ARN of a microVM's image."""
        ...

    def egress_of(self, image_arn: str, version: str | None) -> list[str]:
        """Return the egress connectors of an image's version."""
        ...


class Guard(Protocol):
    """Who may do what and how often, and the record of it; see `control/access/guard.py`."""

    @property
    def resources(self) -> Resources:
        """What is looked up to say what a request needs."""
        ...

    def find_credential(self, access_key_id: str, token: str | None) -> Credential | None:
        """Return the credential of an access key."""
        ...

    def throttle(self, credential: Credential, operation: str) -> None:
        """Count a request; raises ThrottlingError when there were too many."""
        ...

    def authorise(self, credential: Credential, source_ip: str, request: AccessRequest) -> None:
        """Let a request pass; raises AccessDeniedError when no policy allows it."""
        ...

    def record(self, record: AuditRecord) -> None:
        """Take the audit record of an answered request."""
        ...


@dataclass(slots=True)
class Call:
    """A request whose sender is known.

    Args:
        request: it.
        caller: who sent it.
        guard: asked what he may do.
        region: the region played.
        body: its JSON; empty where it has none.
        resources: what it is about, as ARNs, for the audit trail.
    """

    request: Request
    caller: Caller
    guard: Guard
    region: str
    body: Json
    resources: list[str] = field(default_factory=list)

    @property
    def sandbox_id(self) -> str:
        """The sandbox that the path names."""
        return str(self.request.path_params["sandbox_id"])

    def allow(self, *permissions: Permission) -> None:
        """Let it pass.

        Raises:
            AccessDeniedError: no policy allows it.
        """
        assert self.caller.credential is not None
        self.resources += [permission.resource for permission in permissions if permission.resource != ANYTHING]
        self.guard.authorise(self.caller.credential, self.caller.source_ip, AccessRequest(permissions))

    def allow_on_sandbox(self, *actions: str) -> None:
        """Let it do something with the sandbox that its path names: as with microVMs, the image's ARN counts.

        Raises:
            AccessDeniedError: no policy allows it.
        """
        self.allow_on(self.sandbox_id, *actions)

    def allow_on(self, sandbox_id: str, *actions: str) -> None:
        """Let it do something with a sandbox.

        Raises:
            AccessDeniedError: no policy allows it.
        """
        account_id = self.caller.account_id
        image = self.guard.resources.image_of(account_id, sandbox_id)
        resource = image or image_arn(self.region, account_id, ANYTHING)
        self.allow(*(Permission(action, resource) for action in actions))

    def allow_launch(self, image: str, version: str | None) -> None:
        """Let it launch a sandbox, and reach what runs there.

        Raises:
            AccessDeniedError: no policy allows it.
        """
        egress = self.guard.resources.egress_of(image, version)
        passed = [managed_connector_arn(self.region, name) for name in ("HTTP_INGRESS", "SHELL_INGRESS")]
        passed += egress or [managed_connector_arn(self.region, "INTERNET_EGRESS")]
        own = (Permission("lambda:RunMicrovm", image), Permission("lambda:CreateMicrovmShellAuthToken", image))
        self.allow(*own, *(Permission(_PASS_CONNECTOR, arn) for arn in passed))

    # --- members of the body

    def text(self, name: str) -> str:
        """Return a member that must be there.

        Raises:
            ApiError: it is missing, or no text.
        """
        value = self.body.get(name)
        if not isinstance(value, str) or not value:
            raise ApiError(400, f"{name} must be a text that is not empty")
        return value

    def number(self, name: str, default: int) -> int:
        """Return a whole number.

        Raises:
            ApiError: it is none.
        """
        value = self.body.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ApiError(400, f"{name} must be a whole number")
        return value

    def truth(self, name: str, *, default: bool = False) -> bool:
        """Return a truth value.

        Raises:
            ApiError: it is none.
        """
        value = self.body.get(name, default)
        if not isinstance(value, bool):
            raise ApiError(400, f"{name} must be true or false")
        return value

    def texts(self, name: str) -> Mapping[str, str]:
        """Return an object whose values are texts.

        Raises:
            ApiError: it is none.
        """
        value = self.body.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise ApiError(400, f"{name} must be an object whose values are texts")
        return value


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How an API's clients send their keys.

    Args:
        prefix: what keys begin with.
        read: returns the key of a request; an empty text where it has none.
        command: what makes a key, for those who have none.
    """

    prefix: str
    read: Callable[[HTTPConnection], str]
    command: str


def authenticate(request: HTTPConnection, form: KeyForm, guard: Guard, region: str, request_id: str) -> Caller:
    """Return who sent a request.

    Raises:
        ApiError: nobody known did.
    """
    parts = read_api_key(form.prefix, form.read(request))
    credential = None if parts is None else guard.find_credential(parts[0], None)
    if parts is None or credential is None or not hmac.compare_digest(credential.secret_access_key, parts[1]):
        raise ApiError(401, f"the API key counts for nothing here; `{form.command}` makes one")
    return Caller(
        account_id=credential.account_id,
        access_key_id=credential.access_key_id,
        region=region,
        request_id=request_id,
        source_ip=request.client.host if request.client else "",
        credential=credential,
    )


async def read_body(request: Request) -> Json:
    """Return a request's JSON object; an empty one where it has no body.

    Raises:
        ApiError: it is none, or too large.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise ApiError(413, f"the body has more than {BODY_BYTES_MAX} bytes")
    if not data:
        return {}
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body is not JSON, or too deep") from None
    if not isinstance(content, dict):
        raise ApiError(400, "the body must be an object")
    return content
