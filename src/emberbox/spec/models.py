"""The AWS service models: loading them, and the questions about them that other parts ask.

AWS's models are data of the package `botocore`, and Emberbox's own service has one in the same form under `data/`:
nothing here lists operations, shapes or limits by hand.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from emberbox.spec.place import DATA_PATH
from emberbox.spec.undocumented import add_undocumented

MICROVMS: Final = "lambda-microvms"
CORE: Final = "lambda-core"
LOGS: Final = "logs"
EMBERBOX: Final = "emberbox"
SERVICES: Final = (MICROVMS, CORE, LOGS, EMBERBOX)

STS: Final = "sts"
IAM: Final = "iam"
QUOTAS: Final = "service-quotas"
CLOUDWATCH: Final = "cloudwatch"
EC2: Final = "ec2"
CLOUDFORMATION: Final = "cloudformation"
SSM: Final = "ssm"
AROUND: Final = (STS, IAM, QUOTAS, CLOUDWATCH, EC2, CLOUDFORMATION, SSM)
"""Services of which some operations are offered, because clients of microVMs call them too (docs/services.md).

Their models are large (EC2's takes a second to read), so they are loaded when the first request comes.
"""

# One meaning, spelled differently by different services. Our own errors use the first spelling of each row
# that they know; an operation that declares another spelling of the same row is answered with that one.
_SYNONYMS: Final = (
    (
        "ValidationException",
        "InvalidParameterValueException",
        "InvalidParameterException",
        "InvalidInputException",
        "IllegalArgumentException",
    ),
    ("ConflictException", "ResourceConflictException"),
    ("ResourceNotFoundException", "NoSuchEntityException", "NoSuchResourceException"),
    (
        "ResourceAlreadyExistsException",
        "EntityAlreadyExistsException",
        "AlreadyExistsException",
        "ParameterAlreadyExists",
    ),
    (
        "ServiceQuotaExceededException",
        "NetworkConnectorLimitExceededException",
        "LimitExceededException",
        "ParameterLimitExceeded",
    ),
    ("ThrottlingException", "TooManyRequestsException"),
    ("InternalServerException", "ServiceException", "ServiceUnavailableException"),
)


@cache
def load_service(name: str) -> ServiceModel:
    """Load one service model.

    Args:
        name: botocore's name of the service, for example `lambda-microvms`.

    Returns:
        The model of the newest API version that botocore or Emberbox ships. Models in `~/.aws/models` are not looked
        at: what the server speaks must not depend on who started it. Members that AWS sends though no model has
        them are added.

    Raises:
        botocore.exceptions.UnknownServiceError: there is no such service.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH, str(DATA_PATH)], include_default_search_paths=False)
    return ServiceModel(add_undocumented(name, loader.load_service_model(name, "service-2")), name)


@cache
def operation_names(service: str) -> tuple[str, ...]:
    """Return the names of all operations of a service, in the model's order."""
    return tuple(load_service(service).operation_names)


def every_operation_name() -> frozenset[str]:
    """Return the names of the operations of all services."""
    return frozenset(name for service in SERVICES for name in operation_names(service))


@cache
def load_operation(service: str, name: str) -> OperationModel:
    """Return the model of one operation.

    Raises:
        botocore.model.OperationNotFoundError: the service has no such operation.
    """
    return load_service(service).operation_model(name)


def trait(shape: Shape, name: str) -> Any:
    """Return a trait of a shape as the model's JSON states it, or None when the shape lacks it.

    botocore's `Shape.metadata` drops some traits (`fault`, `box`, `deprecated`); this is the one place that
    reads them from the raw data.
    """
    return shape._shape_model.get(name)


@cache
def error_shape(service: str, code: str) -> Shape | None:
    """Return the structure of an error of a service, or None when the service does not model the code."""
    return load_service(service).shape_for_error_code(code)


@cache
def error_status(service: str, code: str) -> int:
    """Return the HTTP status of an error code.

    A code that the service itself does not model (lambda-core has no AccessDeniedException) has the status
    that lambda-microvms, which answers on the same host, gives it.

    Raises:
        LookupError: neither model has the code.
    """
    shape = error_shape(service, code) or error_shape(MICROVMS, code)
    if shape is None:
        raise LookupError(f"neither {service} nor {MICROVMS} models the error {code}")
    status = shape.metadata.get("error", {}).get("httpStatusCode")
    # json-1.1 models state no status: the client's faults are 400, the service's own 500.
    return int(status or (500 if trait(shape, "fault") else 400))


@cache
def declared_code(service: str, operation: str, code: str) -> str:
    """Return the spelling of an error code that an operation declares.

    Args:
        service: the service's name.
        operation: the operation's name.
        code: the code as our error classes spell it, for example `ConflictException`.

    Returns:
        The code itself when the operation declares it or none of its synonyms; otherwise the synonym
        (lambda-core says `ResourceConflictException`).
    """
    declared = {shape.name for shape in load_operation(service, operation).error_shapes}
    if code in declared:
        return code
    row = next((row for row in _SYNONYMS if code in row), ())
    return next((other for other in row if other in declared), code)


@cache
def holds_secret(shape: Shape) -> bool:
    """Say whether a value of the shape is, or may contain, a sensitive one."""
    return _holds_secret(shape, frozenset())


def _holds_secret(shape: Shape, outer: frozenset[str]) -> bool:
    """Do so; a shape that is inside itself adds nothing new."""
    if trait(shape, "sensitive"):
        return True
    if shape.name in outer:
        return False
    outer |= {shape.name}
    match shape.type_name:
        case "structure":
            return any(_holds_secret(member, outer) for member in shape.members.values())
        case "list":
            return _holds_secret(shape.member, outer)
        case "map":
            return _holds_secret(shape.key, outer) or _holds_secret(shape.value, outer)
    return False
