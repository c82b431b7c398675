"""From templates' words to operations': names, types, pairs; names of resources; where templates are read from."""

from __future__ import annotations

from typing import Any

import pytest

from emberbox.control.stacks.kinds import Job
from emberbox.edges.aws.stacks.kind import Terms, as_parameters, chosen_name, is_ours, merged_tags
from emberbox.edges.aws.stacks.registry import split_url
from emberbox.model.caller import Caller
from emberbox.model.errors import ValidationError
from emberbox.spec.models import MICROVMS, load_operation

CALLER = Caller("123456789012", "AKIA", "us-east-1", "id", "")
TERMS = Terms(taken=frozenset({"Name"}), name="Name", name_max=64)


def job(stack: str = "app", logical: str = "Image", **more: Any) -> Job:
    asked = {"properties": {}, "tags": {}, **more}
    return Job(CALLER, "T", logical, stack, "arn:stack", "token", **asked)


def parameters(**properties: Any) -> dict[str, Any]:
    return as_parameters(load_operation(MICROVMS, "CreateMicrovmImage").input_shape, properties)


def test_properties_become_parameters() -> None:
    found = parameters(
        Resources=[{"MinimumMemoryInMiB": "512"}],
        Hooks={"Port": 9000, "MicrovmImageHooks": {"Ready": "ENABLED", "ReadyTimeoutInSeconds": "30"}},
        EnvironmentVariables=[{"Key": "A", "Value": "1"}],
        Tags=[{"Key": "team", "Value": "red"}],
        Description=5,
        BaseImageVersion=None,
    )
    assert found == {
        "resources": [{"minimumMemoryInMiB": 512}],
        "hooks": {"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 30}},
        "environmentVariables": {"A": "1"},
        "tags": {"team": "red"},
        "description": "5",
    }


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"Nope": 1}, r"extraneous key \[Nope\]"),
        ({"Hooks": {"Prot": 1}}, r"extraneous key \[Hooks.Prot\]"),
        ({"Hooks": []}, "Hooks must be an object"),
        ({"Resources": {}}, "Resources must be a list"),
        ({"Resources": [{"MinimumMemoryInMiB": "much"}]}, "must be a whole number"),
        ({"Resources": [{"MinimumMemoryInMiB": True}]}, "must be a whole number"),
        ({"Description": []}, "Description must be a text"),
        ({"Tags": ["x"]}, "Tags must be pairs"),
    ],
)
def test_properties_of_other_types_are_refused(properties: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        parameters(**properties)


def test_names_are_chosen_or_made() -> None:
    assert chosen_name(TERMS, job(properties={"Name": "mine"})) == "mine"
    made = chosen_name(TERMS, job())
    assert made.startswith("app-Image-")
    assert made == chosen_name(TERMS, job())  # of the same token
    long = chosen_name(TERMS, job("s" * 128, "L" * 200))
    assert len(long) == 64
    assert long.startswith("s" * 20)
    assert "L" * 20 in long


def test_only_a_repeat_of_a_made_name_is_surely_ours() -> None:
    assert is_ours(TERMS, job(is_repeat=True))
    assert not is_ours(TERMS, job())
    assert not is_ours(TERMS, job(is_repeat=True, properties={"Name": "mine"}))


def test_own_tags_count_more_than_the_stacks() -> None:
    asked = job(tags={"a": "1", "b": "2"}, properties={"Tags": [{"Key": "b", "Value": "3"}]})
    assert merged_tags(asked) == {"a": "1", "b": "3"}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://s3.us-east-1.amazonaws.com/bucket/a/b%20c", ("bucket", "a/b c")),
        ("https://bucket.s3.us-east-1.amazonaws.com/a", ("bucket", "a")),
        ("http://127.0.0.1:9000/bucket/a", ("bucket", "a")),
        ("http://bucket.s3.localhost:9000/a", ("bucket", "a")),
    ],
)
def test_an_object_is_found_in_a_url(url: str, place: tuple[str, str]) -> None:
    assert split_url(url) == place


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1/bucket", "http://127.0.0.1/", "nonsense"])
def test_a_url_without_an_object_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="valid S3 object"):
        split_url(url)
