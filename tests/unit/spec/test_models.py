"""What is derived from the service models."""

import pytest

from emberbox.spec.models import (
    SERVICES,
    declared_code,
    error_status,
    holds_secret,
    load_operation,
    load_service,
    operation_names,
    trait,
)


def test_models_are_loaded_once() -> None:
    assert load_service("lambda-microvms") is load_service("lambda-microvms")


def test_the_uri_families_and_signing_names_are_those_of_lambda() -> None:
    assert load_service("lambda-microvms").signing_name == "lambda"
    assert load_service("lambda-core").signing_name == "lambda"
    assert load_service("logs").signing_name == "logs"
    uri = load_operation("lambda-microvms", "RunMicrovm").http["requestUri"]
    assert uri == "/2025-09-09/microvms"


@pytest.mark.parametrize(
    ("service", "code", "status"),
    [
        ("lambda-microvms", "ValidationException", 400),
        ("lambda-microvms", "AccessDeniedException", 403),
        ("lambda-microvms", "ResourceNotFoundException", 404),
        ("lambda-microvms", "ConflictException", 409),
        ("lambda-microvms", "ServiceQuotaExceededException", 402),
        ("lambda-microvms", "ThrottlingException", 429),
        ("lambda-microvms", "InternalServerException", 500),
        ("lambda-microvms", "InsufficientCapacityException", 500),
        ("lambda-core", "AccessDeniedException", 403),
        ("lambda-core", "NetworkConnectorLimitExceededException", 400),
        ("logs", "ResourceNotFoundException", 400),
        ("logs", "ServiceUnavailableException", 500),
    ],
)
def test_the_status_of_an_error_comes_from_the_model(service: str, code: str, status: int) -> None:
    assert error_status(service, code) == status


def test_a_code_that_no_model_knows_is_an_error() -> None:
    with pytest.raises(LookupError, match="NoSuchException"):
        error_status("lambda-core", "NoSuchException")


@pytest.mark.parametrize(
    ("service", "operation", "code", "spelling"),
    [
        ("lambda-microvms", "RunMicrovm", "ConflictException", "ConflictException"),
        ("lambda-core", "UpdateNetworkConnector", "ConflictException", "ResourceConflictException"),
        ("lambda-core", "GetNetworkConnector", "ValidationException", "InvalidParameterValueException"),
        ("lambda-core", "GetNetworkConnector", "InternalServerException", "ServiceException"),
        ("lambda-core", "GetNetworkConnector", "AccessDeniedException", "AccessDeniedException"),
        ("logs", "CreateLogGroup", "ValidationException", "InvalidParameterException"),
    ],
)
def test_an_error_takes_the_spelling_that_the_operation_declares(
    service: str, operation: str, code: str, spelling: str
) -> None:
    assert declared_code(service, operation, code) == spelling


def test_traits_that_botocore_drops_can_be_read() -> None:
    service = load_service("lambda-microvms")
    assert trait(service.shape_for("InternalServerException"), "fault") is True
    assert trait(service.shape_for("ValidationException"), "fault") is None


def test_secrets_are_found_inside_containers() -> None:
    run = load_operation("lambda-microvms", "RunMicrovm").input_shape.members
    create = load_operation("lambda-microvms", "CreateMicrovmImage").input_shape.members
    assert holds_secret(run["runHookPayload"])
    assert holds_secret(create["environmentVariables"])
    assert not holds_secret(create["tags"])


def test_the_models_use_only_the_traits_that_the_wire_layer_reads() -> None:
    for service in ("lambda-microvms", "lambda-core"):
        for name in operation_names(service):
            operation = load_operation(service, name)
            for shape in filter(None, (operation.input_shape, operation.output_shape)):
                assert "payload" not in shape.serialization
                locations = {member.serialization.get("location") for member in shape.members.values()}
                assert locations <= {None, "uri", "querystring", "header"}


def test_no_input_shape_is_recursive() -> None:
    for service in SERVICES:
        for name in operation_names(service):
            shape = load_operation(service, name).input_shape
            assert shape is None or holds_secret(shape) in {True, False}
