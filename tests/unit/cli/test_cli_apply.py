"""`emberbox apply`: what it reads, and what it refuses with a next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from emberbox.cli import apply as module
from emberbox.model.errors import HostError


class Client:
    """A CloudFormation with one stack at most, whose work ends with the second look."""

    def __init__(self, status: str | None, ends: str = "CREATE_COMPLETE") -> None:
        self.status, self.ends = status, ends
        self.asked: list[tuple[str, Any]] = []
        self.changes = True

    def describe_stacks(self, StackName: str) -> Any:  # noqa: N803 - boto3's spelling
        if self.status is None:
            raise ClientError({"Error": {"Code": "ValidationError", "Message": "it does not exist"}}, "DescribeStacks")
        status = self.status
        if status.endswith("_IN_PROGRESS"):
            self.status = self.ends
        outputs = [{"OutputKey": "Url", "OutputValue": "x"}]
        return {"Stacks": [{"StackName": StackName, "StackStatus": status, "Outputs": outputs}]}

    def create_stack(self, **asked: Any) -> Any:
        self.asked.append(("create", asked))
        self.status = "CREATE_IN_PROGRESS"
        return {"StackId": "arn:stack"}

    def update_stack(self, **asked: Any) -> Any:
        self.asked.append(("update", asked))
        if not self.changes:
            error = {"Code": "ValidationError", "Message": "No updates are to be performed."}
            raise ClientError({"Error": error}, "UpdateStack")
        self.status = "UPDATE_IN_PROGRESS"
        return {"StackId": "arn:stack"}

    def describe_stack_events(self, StackName: str) -> Any:  # noqa: N803 - boto3's spelling
        event = {
            "EventId": "1", "ResourceStatus": "UPDATE_IN_PROGRESS", "PhysicalResourceId": StackName,
            "LogicalResourceId": "app", "ResourceType": "T", "ResourceStatusReason": "because",
        }  # fmt: skip
        return {"StackEvents": [event, {**event, "EventId": "0", "LogicalResourceId": "old"}]}

    def get_paginator(self, _name: str) -> Any:
        pages = self.describe_stack_events

        class Paginator:
            def paginate(self, **asked: Any) -> Any:
                return [pages(**asked)]

        return Paginator()


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "my app.yaml"
    path.write_text("Resources: {}")
    return path


def use(monkeypatch: pytest.MonkeyPatch, client: Client) -> Client:
    class Server:
        def client(self, _service: str) -> Client:
            return client

    monkeypatch.setattr(module, "get_server", lambda _home: Server())
    monkeypatch.setattr(module, "POLL_S", 0)
    return client


def test_a_new_stack_is_made(
    template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = use(monkeypatch, Client(None))
    module.apply(template, None, ["Days=7", "Name=a=b"])
    verb, asked = client.asked[0]
    assert (verb, asked["StackName"], asked["TemplateBody"]) == ("create", "my-app", "Resources: {}")
    assert [(one["ParameterKey"], one["ParameterValue"]) for one in asked["Parameters"]] == [
        ("Days", "7"),
        ("Name", "a=b"),
    ]
    assert capsys.readouterr().out.splitlines()[-1] == "Url = x"


def test_a_stack_is_changed_and_only_what_is_new_is_told(
    template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = use(monkeypatch, Client("CREATE_COMPLETE", ends="UPDATE_COMPLETE"))
    module.apply(template, "app", None)
    assert client.asked[0][0] == "update"
    told = capsys.readouterr().out
    assert "because" in told
    assert "old" not in told


def test_nothing_to_change_is_no_failure(
    template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = use(monkeypatch, Client("CREATE_COMPLETE"))
    client.changes = False
    module.apply(template, "app", None)
    assert capsys.readouterr().out == "app is what the template says\nUrl = x\n"


def test_failures_say_what_to_do_next(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Client(None, ends="ROLLBACK_COMPLETE"))
    with pytest.raises(HostError, match="app is ROLLBACK_COMPLETE: the events above say why"):
        module.apply(template, "app", None)
    use(monkeypatch, Client("ROLLBACK_COMPLETE"))
    with pytest.raises(HostError, match="aws cloudformation delete-stack --stack-name app"):
        module.apply(template, "app", None)
    with pytest.raises(HostError, match="cannot be read"):
        module.apply(template.parent / "none", "app", None)
    with pytest.raises(HostError, match="is not NAME=VALUE"):
        module.apply(template, "app", ["x"])
    template.write_text("x" * 60_000)
    with pytest.raises(HostError, match="--s3-bucket"):
        module.apply(template, "app", None)


@pytest.mark.parametrize(("name", "wanted"), [("a_b.c.yml", "a-b-c"), ("7.json", "stack-7"), ("é.yaml", "stack")])
def test_a_stack_is_called_as_its_file(name: str, wanted: str) -> None:
    assert module.stack_name(Path(name)) == wanted
