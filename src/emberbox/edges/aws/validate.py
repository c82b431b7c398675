"""The constraints that a service model states, checked the way AWS reports them.

All violations are collected and told in one sentence, joined by semicolons:
`1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null`.
Paths are camelCase whatever the case of the model (m80: `vpcEgressConfiguration`). A structure inside a list
has the path `resources.1.member`; scalars inside lists and maps are reported at the container, as
`Member must satisfy constraint: [...]` and `Map keys must satisfy constraint: [...]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from botocore.model import OperationModel, Shape

from emberbox.edges.aws.errors import ConstraintError
from emberbox.spec.models import holds_secret, trait
from emberbox.spec.patterns import compile_pattern
from emberbox.spec.undocumented import IN_BYTES

_NOT_NULL: Final = "Member must not be null"
_CONTAINERS: Final = frozenset({"structure", "list", "map"})
_NUMBERS: Final = frozenset({"integer", "long", "float", "double"})
# m80 recorded this order of the missing members; the model's own is baseImageArn, buildRoleArn, codeArtifact.
_MEASURED_ORDER: Final = {"CreateMicrovmImageRequest": ("baseImageArn", "codeArtifact", "buildRoleArn")}

_Rule = tuple[str, Callable[[Any], bool]]  # AWS's phrase, and whether a value satisfies it


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken constraint: where, of which value, and what it should have been.

    Attributes:
        path: the place in the input, for example `resources.1.member.minimumMemoryInMiB`.
        value: the value as text: quoted, `null`, or None when it must not be shown.
        constraint: AWS's phrase, for example `Member must not be null`.
    """

    path: str
    value: str | None
    constraint: str

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value}"
        return f"Value{value} at '{self.path}' failed to satisfy constraint: {self.constraint}"


def validate_parameters(operation: OperationModel, parameters: Mapping[str, Any]) -> None:
    """Check parameters against every constraint of the model.

    Args:
        operation: the operation's model.
        parameters: what `parse_request` returned.

    Raises:
        ConstraintError: at least one constraint is broken; its text names all of them.
    """
    shape = operation.input_shape
    violations = list(find_violations(shape, parameters)) if shape is not None else []
    if not violations:
        return
    plural = "" if len(violations) == 1 else "s"
    text = "; ".join(map(str, violations))
    raise ConstraintError(f"{len(violations)} validation error{plural} detected: {text}", _code(operation))


def _code(operation: OperationModel) -> str:
    """Return ValidationException, which lambda-core sends without modelling it, or what logs sends."""
    declared = {error.name for error in operation.error_shapes}
    return "InvalidParameterException" if "InvalidParameterException" in declared else ConstraintError.code


def find_violations(shape: Shape, value: Any, path: str = "") -> Iterator[Violation]:
    """Yield the violations of a value that is not null and has the shape's types, in AWS's order."""
    for constraint in _constraints(shape, value):
        yield Violation(path, _shown(shape, value), constraint)
    match shape.type_name:
        case "structure":
            yield from _structure_violations(shape, value, path)
        case "list":
            yield from _list_violations(shape, value, path)
        case "map":
            yield from _map_violations(shape, value, path)


def _structure_violations(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[Violation]:
    for name in _member_order(shape):
        inner = f"{path}.{_camel(name)}" if path else _camel(name)
        if name in value:
            yield from find_violations(shape.members[name], value[name], inner)
        elif name in shape.required_members:
            yield Violation(inner, "null", _NOT_NULL)


def _list_violations(shape: Shape, value: list[Any], path: str) -> Iterator[Violation]:
    if _is_too_long(shape, value):
        return
    if shape.member.type_name not in _CONTAINERS:
        yield from _summary(shape, value, path, "Member", shape.member, value)
        return
    for number, item in enumerate(value, start=1):
        inner = f"{path}.{number}.member"
        if item is None:
            yield Violation(inner, "null", _NOT_NULL)
        else:
            yield from find_violations(shape.member, item, inner)


def _map_violations(shape: Shape, value: Mapping[str, Any], path: str) -> Iterator[Violation]:
    if _is_too_long(shape, value):
        return
    yield from _summary(shape, value, path, "Map keys", shape.key, value)
    if shape.value.type_name not in _CONTAINERS:
        yield from _summary(shape, value, path, "Map value", shape.value, value.values())
        return
    for key, item in value.items():
        if item is None:
            yield Violation(f"{path}.{key}", "null", _NOT_NULL)
        else:
            yield from find_violations(shape.value, item, f"{path}.{key}")


def _is_too_long(shape: Shape, value: Any) -> bool:
    """Say whether a container breaks its limit; one violation is then enough said, however many it holds."""
    most = shape.metadata.get("max")
    return most is not None and len(value) > int(most)


def _summary(shape: Shape, value: Any, path: str, subject: str, inner: Shape, items: Any) -> Iterator[Violation]:
    """Yield one violation of a container some of whose scalars break their constraints."""
    if any(item is None or _constraints(inner, item) for item in items):
        rules = ", ".join([*(phrase for phrase, _ in _rules(inner)), _NOT_NULL])
        yield Violation(path, _shown(shape, value), f"{subject} must satisfy constraint: [{rules}]")


def _constraints(shape: Shape, value: Any) -> list[str]:
    """Return the phrases of the shape's own constraints that a value breaks."""
    return [phrase for phrase, holds in _rules(shape) if not holds(value)]


@cache
def _rules(shape: Shape) -> tuple[_Rule, ...]:
    """Return a shape's own constraints, in the order of AWS's summaries."""
    return tuple(_make_rules(shape))


def _make_rules(shape: Shape) -> Iterator[_Rule]:
    most, least, pattern = (shape.metadata.get(name) for name in ("max", "min", "pattern"))
    kind, size = ("value", _itself) if shape.type_name in _NUMBERS else ("length", _measure(shape))
    if most is not None:
        yield f"Member must have {kind} less than or equal to {most}", lambda value: size(value) <= most
    if least is not None:
        yield f"Member must have {kind} greater than or equal to {least}", lambda value: size(value) >= least
    if pattern is not None:
        matches = compile_pattern(pattern).fullmatch
        yield f"Member must satisfy regular expression pattern: {pattern}", lambda value: bool(matches(value))
    if values := shape.metadata.get("enum"):
        yield f"Member must satisfy enum value set: [{', '.join(values)}]", frozenset(values).__contains__
    if shape.metadata.get("union"):
        names = ", ".join(shape.members)
        yield f"Member must have exactly one of its members set: [{names}]", lambda value: len(value) == 1


def _itself(value: Any) -> Any:
    return value


def _measure(shape: Shape) -> Callable[[Any], int]:
    return _count_bytes if trait(shape, IN_BYTES) else len


def _count_bytes(value: str) -> int:
    return len(value.encode())


def _member_order(shape: Shape) -> list[str]:
    names = list(shape.members)
    measured = _MEASURED_ORDER.get(shape.name, ())
    places = sorted(names.index(name) for name in measured)
    for place, name in zip(places, measured, strict=True):
        names[place] = name
    return names


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]


def _shown(shape: Shape, value: Any) -> str | None:
    """Quote a value the way Java prints it; None when the shape may hold a secret."""
    return None if holds_secret(shape) else f"'{_java_text(value)}'"


def _java_text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Mapping():
            return "{" + ", ".join(f"{key}={_java_text(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_java_text, value)) + "]"
    return str(value)
