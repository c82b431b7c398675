"""A whole API with its guard, in process, over a database of its own: everything but microVMs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from emberbox.edges.aws.http import Answer, HttpRequest
from emberbox.keys import ensure_credential
from emberbox.model.iam.access import Credential
from emberbox.model.records import Image, Microvm
from emberbox.spec.models import EMBERBOX, MICROVMS
from support.control_plane import ControlPlane
from support.wire import call, signed_operation

REGION = "us-east-1"
OPERATOR = "000000000000"
ALLOW_ALL = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'


class RefusedError(Exception):
    """An answer that says no: status, code and text."""

    def __init__(self, answer: Answer) -> None:
        body = json.loads(answer.body)
        self.status = answer.status
        self.code = answer.headers.get("x-amzn-errortype") or body["__type"]
        self.text = body.get("message", body.get("Message"))
        self.headers = answer.headers
        super().__init__(f"{self.status} {self.code}: {self.text}")


class World:
    """A control plane, and who signs requests to it."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        self.admin = ensure_credential(home, OPERATOR)
        self.plane = ControlPlane(home, self.admin, REGION, **settings)
        self.access, self.images, self.logs = self.plane.access, self.plane.images, self.plane.logs
        self.app = self.plane.app()

    async def send(self, request: HttpRequest) -> dict[str, Any]:
        """Return the decoded body of an answer; raises RefusedError for a refusal."""
        answer = await call(self.app, request)
        if answer.status >= 300:
            raise RefusedError(answer)
        body: dict[str, Any] = json.loads(answer.body or b"{}")
        return body

    async def call(self, key: Credential, operation: str, service: str = MICROVMS, **parameters: Any) -> dict[str, Any]:
        return await self.send(signed_operation(service, operation, parameters, key))

    async def own(self, key: Credential, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of Emberbox's own service."""
        return await self.call(key, operation, EMBERBOX, **parameters)

    async def new_account(self, account_id: str) -> Credential:
        """Make an account; return the key of its admin."""
        made = await self.own(self.admin, "CreateAccount", accountId=account_id, accountName=f"account {account_id}")
        return as_key(made["accessKey"])

    async def new_user(self, admin: Credential, name: str, *statements: Mapping[str, Any]) -> Credential:
        """Make a user with a policy of these statements; without any, a user who may do nothing."""
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            await self.own(admin, "PutPolicy", policyName="test", userName=name, policyDocument=document)
        return as_key((await self.own(admin, "CreateAccessKey", userName=name))["accessKey"])

    def add_image(self, account_id: str, name: str, **tags: str) -> Image:
        """Store an image with an active version, as if it had been built."""
        return self.plane.add_image(name, account=account_id, **tags)

    def add_microvm(self, image: Image) -> Microvm:
        """Store a microVM that has ended; everything about it can still be asked."""
        return self.plane.add_microvm(image)

    async def records(self) -> list[dict[str, Any]]:
        """Return the whole audit trail."""
        await self.access.trail.flush()
        files = sorted((self.home / "audit").iterdir())
        lines = await asyncio.to_thread(lambda: "".join(path.read_text() for path in files))
        return [json.loads(line) for line in lines.splitlines()]


def as_key(shown: Mapping[str, Any]) -> Credential:
    """Return what a client signs with, from an answer."""
    return Credential(
        shown["accessKeyId"], shown["secretAccessKey"], shown.get("accountId", ""), shown.get("sessionToken")
    )


def connector(name: str) -> str:
    return f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:{name}"


def allow(*actions: str, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    """Return a statement that allows actions."""
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **_conditions(condition)}


def deny(*actions: str, resource: Any = "*", **condition: Any) -> dict[str, Any]:
    """Return a statement that denies actions."""
    return {"Effect": "Deny", "Action": list(actions), "Resource": resource, **_conditions(condition)}


def _conditions(condition: dict[str, Any]) -> dict[str, Any]:
    return {"Condition": condition} if condition else {}


@asynccontextmanager
async def start_world(home: Path, **settings: Any) -> AsyncIterator[World]:
    world = World(home, **settings)
    try:
        yield world
    finally:
        await world.plane.close()
