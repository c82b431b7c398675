"""Every limit of the models, at its edge and one past it; and the texts that were recorded from AWS."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.model import Shape

from emberbox.edges.aws.errors import ConstraintError
from emberbox.edges.aws.validate import find_violations, validate_parameters
from emberbox.spec.models import load_operation
from support.wire import example, input_shapes

ROLE = "arn:aws:iam::123456789012:role/build"
ARN = "arn:aws:lambda:us-east-1:123456789012:microvm-image:web"
NUMBERS = {"integer", "long", "float", "double"}
# Nothing the size of a whole request body is made here.
LIMITED = [
    shape
    for shape in input_shapes()
    if any((shape.metadata.get(name) or 0) <= 100_000 and name in shape.metadata for name in ("min", "max"))
]


def sized(shape: Shape, size: int) -> Any:
    """Make a value of a shape that has a length, or the number itself."""
    rng = random.Random(0)
    match shape.type_name:
        case "string":
            return "a" * size
        case "list":
            return [example(shape.member, rng) for _ in range(size)]
        case "map":
            return {f"key{number}": example(shape.value, rng) for number in range(size)}
    return size


def own_phrases(shape: Shape, value: Any) -> set[str]:
    return {found.constraint for found in find_violations(shape, value, "here") if found.path == "here"}


def message(operation: str, parameters: dict[str, Any], service: str = "lambda-microvms") -> str:
    with pytest.raises(ConstraintError) as caught:
        validate_parameters(load_operation(service, operation), parameters)
    return str(caught.value.message)


def create_image(**changes: Any) -> dict[str, Any]:
    given = {"name": "web", "baseImageArn": ARN, "buildRoleArn": ROLE, "codeArtifact": {"uri": "s3://b/k"}}
    return {name: value for name, value in {**given, **changes}.items() if value is not None}


def test_the_models_have_limits() -> None:
    assert {"RunHookPayload", "ImageName", "PortNumber"} <= {shape.name for shape in LIMITED}
    assert len(LIMITED) > 100


@pytest.mark.parametrize("shape", [s for s in LIMITED if s.metadata.get("max", 10**9) <= 100_000], ids=lambda s: s.name)
def test_the_maximum_is_inclusive(shape: Shape) -> None:
    kind = "value" if shape.type_name in NUMBERS else "length"
    most = shape.metadata["max"]
    phrase = f"Member must have {kind} less than or equal to {most}"
    assert phrase not in own_phrases(shape, sized(shape, most))
    assert phrase in own_phrases(shape, sized(shape, most + 1))


@pytest.mark.parametrize("shape", [s for s in LIMITED if "min" in s.metadata], ids=lambda s: s.name)
def test_the_minimum_is_inclusive(shape: Shape) -> None:
    kind = "value" if shape.type_name in NUMBERS else "length"
    least = shape.metadata["min"]
    phrase = f"Member must have {kind} greater than or equal to {least}"
    assert phrase not in own_phrases(shape, sized(shape, least))
    if least > 0 or kind == "value":
        assert phrase in own_phrases(shape, sized(shape, least - 1))


@pytest.mark.parametrize("shape", [s for s in input_shapes() if s.metadata.get("enum")], ids=lambda s: s.name)
def test_enums_take_their_values_and_nothing_else(shape: Shape) -> None:
    phrase = f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
    assert [value for value in shape.enum if phrase in own_phrases(shape, value)] == []
    assert phrase in own_phrases(shape, shape.enum[0] + "x")


@pytest.mark.parametrize("shape", [s for s in input_shapes() if s.metadata.get("pattern")], ids=lambda s: s.name)
def test_every_pattern_is_checked(shape: Shape) -> None:
    pattern = shape.metadata["pattern"]
    assert f"Member must satisfy regular expression pattern: {pattern}" in own_phrases(shape, "#\n*: ")


@pytest.mark.parametrize("shape", [s for s in input_shapes() if s.type_name == "structure"], ids=lambda s: s.name)
def test_every_required_member_is_missed(shape: Shape) -> None:
    missing = {found.path for found in find_violations(shape, {}) if found.constraint == "Member must not be null"}
    assert missing == {name[0].lower() + name[1:] for name in shape.required_members}


@pytest.mark.parametrize("shape", [s for s in input_shapes() if s.metadata.get("union")], ids=lambda s: s.name)
def test_a_union_has_exactly_one_member(shape: Shape) -> None:
    phrase = f"Member must have exactly one of its members set: [{', '.join(shape.members)}]"
    rng = random.Random(0)
    values = {name: example(member, rng) for name, member in shape.members.items()}
    assert phrase in own_phrases(shape, {})
    assert all(phrase not in own_phrases(shape, {name: value}) for name, value in values.items())
    assert len(values) == 1 or phrase in own_phrases(shape, values)


def test_good_parameters_pass() -> None:
    validate_parameters(load_operation("lambda-microvms", "CreateMicrovmImage"), create_image(tags={"a": ""}))


def test_missing_members_are_listed_in_the_recorded_order() -> None:
    given = create_image(baseImageArn=None, buildRoleArn=None, codeArtifact=None)
    assert message("CreateMicrovmImage", given) == (
        "3 validation errors detected: "
        "Value null at 'baseImageArn' failed to satisfy constraint: Member must not be null; "
        "Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; "
        "Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null"
    )


def test_a_bad_name_reads_as_recorded() -> None:
    assert message("CreateMicrovmImage", create_image(name="bad name")) == (
        "1 validation error detected: Value 'bad name' at 'name' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"
    )


def test_a_secret_value_is_not_repeated() -> None:
    assert message("RunMicrovm", {"imageIdentifier": ARN, "runHookPayload": "x" * 4097}) == (
        "1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: "
        "Member must have length less than or equal to 4096"
    )


@pytest.mark.parametrize(("payload", "fits"), [("é" * 2048, True), ("é" * 2048 + "x", False), ("✓" * 1366, False)])
def test_the_run_hook_payload_counts_bytes(payload: str, fits: bool) -> None:
    """As measured on AWS; a fork's payload is the same kind."""
    told = "Member must have length less than or equal to 4096"
    if fits:
        validate_parameters(
            load_operation("lambda-microvms", "RunMicrovm"), {"imageIdentifier": ARN, "runHookPayload": payload}
        )
    else:
        assert told in message("RunMicrovm", {"imageIdentifier": ARN, "runHookPayload": payload})
    fork = {"microvmIdentifier": "microvm-00000000-0000-0000-0000-000000000000", "runHookPayload": payload}
    violations = find_violations(load_operation("emberbox", "ForkMicrovm").input_shape, fork)
    assert any(told in str(violation) for violation in violations) is not fits


def test_a_map_with_secrets_is_not_repeated() -> None:
    text = message("CreateMicrovmImage", create_image(environmentVariables={"bad key": "hunter2"}))
    assert text.startswith("1 validation error detected: Value at 'environmentVariables' failed")
    assert "Map keys must satisfy constraint: [" in text
    assert "hunter2" not in text


def test_members_of_listed_structures_have_numbered_paths() -> None:
    assert message("CreateMicrovmImage", create_image(resources=[{}])) == (
        "1 validation error detected: Value null at 'resources.1.member.minimumMemoryInMiB' failed to "
        "satisfy constraint: Member must not be null"
    )


def test_a_number_out_of_bounds_is_shown() -> None:
    ports = [{"port": 1}, {"range": {"startPort": 1, "endPort": 65536}}]
    given = {"microvmIdentifier": "m", "expirationInMinutes": 1, "allowedPorts": ports}
    assert message("CreateMicrovmAuthToken", given) == (
        "1 validation error detected: Value '65536' at 'allowedPorts.2.member.range.endPort' failed to "
        "satisfy constraint: Member must have value less than or equal to 65535"
    )


def test_a_null_in_a_list_is_reported_at_its_place() -> None:
    assert "Value null at 'resources.1.member' failed" in message("CreateMicrovmImage", create_image(resources=[None]))


def test_scalars_in_a_list_are_reported_at_the_list() -> None:
    text = message("CreateMicrovmImage", create_image(additionalOsCapabilities=["ALL", "NONE"]))
    assert "Value '[ALL, NONE]' at 'additionalOsCapabilities' failed to satisfy constraint" in text


def test_bad_tags_are_reported_at_the_map() -> None:
    text = message("TagResource", {"Resource": ARN, "Tags": {"": "#"}})
    assert text.startswith("2 validation errors detected: Value '{=#}' at 'tags' failed")
    assert "Map keys must satisfy constraint: [Member must have length less than or equal to 128, " in text
    assert "Map value must satisfy constraint: [" in text


def test_a_list_that_is_too_long_is_one_violation() -> None:
    text = message("CreateMicrovmAuthToken", {"microvmIdentifier": "m", "expirationInMinutes": 1, "allowedPorts": []})
    assert text.startswith("1 validation error detected: Value '[]' at 'allowedPorts'")
    many: list[Any] = [{}] * 1000
    assert message("CreateMicrovmImage", create_image(resources=many)).startswith("1 validation error detected")


def test_paths_are_camel_case_whatever_the_model_says() -> None:
    given = {
        "Name": "n",
        "Configuration": {"VpcEgressConfiguration": {"NetworkProtocol": "x", "SubnetIds": ["s"]}},
    }
    text = message("CreateNetworkConnector", given, "lambda-core")
    assert "Value 'x' at 'configuration.vpcEgressConfiguration.networkProtocol' failed" in text
    assert "Value '[s]' at 'configuration.vpcEgressConfiguration.subnetIds' failed" in text


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("lambda-microvms", "CreateMicrovmImage", "ValidationException"),
        ("lambda-core", "CreateNetworkConnector", "ValidationException"),
        ("logs", "CreateLogGroup", "InvalidParameterException"),
    ],
)
def test_the_code_is_the_one_the_service_sends(service: str, operation: str, code: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        validate_parameters(load_operation(service, operation), {})
    assert caught.value.error_code == code
