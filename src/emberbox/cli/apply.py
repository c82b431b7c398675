"""`emberbox apply`: a template's resources, made or changed as one stack."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from emberbox.cli.context import get_server
from emberbox.model.errors import HostError
from emberbox.settings import load

BODY_MAX: Final = 51_200
POLL_S: Final = 0.5
CAPABILITIES: Final = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
"""Who types the command has the template and the credentials: nothing is left to acknowledge."""

_GOOD: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def apply(
    template: Annotated[Path, typer.Argument(help="A CloudFormation template, YAML or JSON.")],
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", help="The stack's name; the file's by default.", metavar="NAME")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="A parameter's value.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Make a template's resources, or change them to what it says now; a failure is undone."""
    from botocore.exceptions import ClientError

    body, name = read_template(template), stack or stack_name(template)
    client = get_server(load().home).client("cloudformation")
    found = _find(client, name)
    given = read_parameters(parameter or ())
    asked = {"StackName": name, "TemplateBody": body, "Parameters": given, "Capabilities": CAPABILITIES}
    if found is None:
        stack_id = client.create_stack(**asked)["StackId"]
    else:
        _check_updatable(found)
        try:
            stack_id = client.update_stack(**asked)["StackId"]
        except ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
            print(f"{name} is what the template says")
            _show_outputs(found)
            return
    ended = _follow(client, stack_id, since=None if found is None else _last_event(client, stack_id))
    if ended["StackStatus"] not in _GOOD:
        reason = ended.get("StackStatusReason") or "the events above say why"
        raise HostError(f"{name} is {ended['StackStatus']}: {reason}")
    _show_outputs(ended)


def read_template(path: Path) -> str:
    """Return the text of a template.

    Raises:
        HostError: it cannot be read, or is too long for a request.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(f"{path} cannot be read: {error}") from error
    if len(text.encode()) > BODY_MAX:
        raise HostError(
            f"{path} has more than {BODY_MAX} bytes; `aws cloudformation deploy --s3-bucket` takes it by way of S3"
        )
    return text


def stack_name(path: Path) -> str:
    """Return a stack's name for a file: its own, as far as names of stacks allow."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in path.stem).strip("-")
    return plain if plain[:1].isalpha() else f"stack-{plain}".rstrip("-")


def read_parameters(given: Sequence[str]) -> list[dict[str, Any]]:
    """Return parameters as they are given; of others the template's defaults count, also where a stack had values.

    Raises:
        HostError: one is not NAME=VALUE.
    """
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise HostError(f"{text} is not NAME=VALUE")
        values[name] = value
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]


def _find(client: Any, name: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        stack: dict[str, Any] = client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return stack


def _check_updatable(stack: dict[str, Any]) -> None:
    name, status = stack["StackName"], stack["StackStatus"]
    if status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"):
        raise HostError(
            f"{name} is {status}: delete it with `aws cloudformation delete-stack --stack-name {name}`, then try again"
        )


def _last_event(client: Any, stack_id: str) -> str:
    """Return the event with which the present work has begun, so that earlier ones are not told again."""
    for event in client.describe_stack_events(StackName=stack_id)["StackEvents"]:
        if event["ResourceStatus"] == "UPDATE_IN_PROGRESS" and event.get("PhysicalResourceId") == stack_id:
            return str(event["EventId"])
    return ""


def _follow(client: Any, stack_id: str, since: str | None) -> dict[str, Any]:
    """Tell events as they come, and return the stack when nothing is under way any more."""
    seen: set[str] = set()
    while True:
        stack: dict[str, Any] = client.describe_stacks(StackName=stack_id)["Stacks"][0]
        for event in reversed(list(_events(client, stack_id, since))):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                _tell(event)
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        time.sleep(POLL_S)


def _events(client: Any, stack_id: str, since: str | None) -> Iterator[dict[str, Any]]:
    for page in client.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        for event in page["StackEvents"]:
            yield event
            if event["EventId"] == since:
                return


def _tell(event: dict[str, Any]) -> None:
    reason = event.get("ResourceStatusReason")
    words = f"  {reason}" if reason else ""
    print(f"{event['ResourceStatus']:<22} {event['LogicalResourceId']} ({event['ResourceType']}){words}", flush=True)


def _show_outputs(stack: dict[str, Any]) -> None:
    for output in stack.get("Outputs", ()):
        print(f"{output['OutputKey']} = {output['OutputValue']}")
