"""Intrinsic functions: the values of a template with references, conditions and functions replaced by what they mean.

"Intrinsic function reference". What is not in the tables at the end is refused by its name. Resources are asked of a
`Scope`, so that the same code serves a stack that exists and one that is only planned.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.template import Template, as_text

TEXT_MAX: Final = 1 << 20
GROWTH_MAX: Final = 16 << 20
"""Characters of one text that a function makes, and of all of them: small templates could stand for very large ones."""

ACCOUNT: Final = "AWS::AccountId"
NO_VALUE: Final = "AWS::NoValue"
_DYNAMIC: Final = "{{resolve:"
_REFERENCE: Final = re.compile(r"\$\{(!?)([^${}]+)\}")


class Absent:
    """The value of AWS::NoValue: whatever has it is left out."""


ABSENT: Final = Absent()


class Lookups(Protocol):
    """What a template's values may ask of the world around it."""

    def ref(self, logical_id: str) -> Any:
        """Return what `Ref` of a resource means."""
        ...

    def attribute(self, logical_id: str, name: str) -> Any:
        """Return what `Fn::GetAtt` of a resource means; raises ValidationError where there is no such attribute."""
        ...

    def imported(self, name: str) -> str:
        """Return what another stack exports; raises ValidationError where none does."""
        ...


@dataclass
class Scope:
    """Where values are resolved.

    Args:
        template: has mappings and conditions.
        names: parameters and pseudo parameters with their values.
        lookups: knows resources and exports.
    """

    template: Template
    names: Mapping[str, Any]
    lookups: Lookups
    _conditions: dict[str, bool | None] = field(default_factory=dict)
    _grown: int = 0

    def condition(self, name: str) -> bool:
        """Return whether a condition of the template holds.

        Raises:
            ValidationError: there is none of the name, or it depends on itself.
        """
        if name in self._conditions:
            known = self._conditions[name]
            if known is None:
                raise ValidationError(f"Template error: the condition {name} depends on itself")
            return known
        if name not in self.template.conditions:
            raise ValidationError(f"Template error: unresolved condition {name}")
        self._conditions[name] = None
        value = self._conditions[name] = _truth(self.resolve(self.template.conditions[name]), name)
        return value

    def is_wanted(self, condition: str | None) -> bool:
        """Say whether what has a condition is there; without one it always is."""
        return condition is None or self.condition(condition)

    def resolve(self, value: Any) -> Any:
        """Return a value with every function in it replaced.

        Raises:
            ValidationError: a function is not known, or its arguments make no sense.
        """
        if isinstance(value, dict):
            found = function_of(value)
            if found is not None:
                return _call(self, *found)
            resolved = {name: self.resolve(item) for name, item in value.items()}
            return {name: item for name, item in resolved.items() if item is not ABSENT}
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not ABSENT]
        if isinstance(value, str) and _DYNAMIC in value:
            raise ValidationError(f"Template error: dynamic references are not offered by Emberbox: {value[:200]}")
        return value

    def text(self, value: Any, function: str) -> str:
        """Return the text that a value resolves to."""
        resolved = self.resolve(value)
        if isinstance(resolved, dict | list | Absent) or resolved is None:
            raise ValidationError(f"Template error: every {function} object needs texts, and one is something else")
        return as_text(resolved, function)

    def texts(self, value: Any, function: str) -> list[str]:
        """Return the list of texts that a value resolves to."""
        resolved = self.resolve(value)
        if not isinstance(resolved, list):
            raise ValidationError(f"Template error: {function} needs a list")
        return [self.text(item, function) for item in resolved]

    def grown(self, text: str) -> str:
        """Count what a function has made.

        Raises:
            ValidationError: it is too much.
        """
        self._grown += len(text)
        if len(text) > TEXT_MAX or self._grown > GROWTH_MAX:
            raise ValidationError("Template error: its functions make texts that are too long")
        return text

    def reference(self, name: str) -> Any:
        """Return what `Ref` means."""
        if name == NO_VALUE:
            return ABSENT
        if name in self.names:
            return self.names[name]
        if name in self.template.resources:
            return self.lookups.ref(name)
        raise ValidationError(f"Template format error: Unresolved resource dependencies [{name}] in the template")

    def attribute(self, logical_id: str, name: str) -> Any:
        """Return what `Fn::GetAtt` means."""
        if logical_id not in self.template.resources:
            raise ValidationError(f"Template error: instance of Fn::GetAtt references undefined resource {logical_id}")
        return self.lookups.attribute(logical_id, name)


def function_of(value: Any) -> tuple[str, Any] | None:
    """Return name and argument where a value is a call of a function; None otherwise."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    name, argument = next(iter(value.items()))
    is_function = name == "Ref" or name.startswith("Fn::") or (name == "Condition" and isinstance(argument, str))
    return (name, argument) if is_function else None


def references(value: Any) -> Iterator[str]:
    """Yield the names that a value refers to: of resources, parameters and pseudo parameters."""
    found = function_of(value)
    if found is not None:
        name, argument = found
        if name == "Ref" and isinstance(argument, str):
            yield argument
        elif name == "Fn::GetAtt":
            yield _attribute_parts(argument)[0]
        elif name == "Fn::Sub":
            yield from _sub_references(argument)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from references(child)


def _sub_references(argument: Any) -> Iterator[str]:
    text, own = _sub_parts(argument)
    for escape, name in _REFERENCE.findall(text):
        if not escape and name.strip() not in own:
            yield name.strip().partition(".")[0]


# --- the functions


def _call(scope: Scope, name: str, argument: Any) -> Any:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ValidationError(f"Template error: the function {name} is not offered by Emberbox")
    return function(scope, argument)


def _arguments(argument: Any, name: str, least: int, most: int) -> list[Any]:
    if not isinstance(argument, list) or not least <= len(argument) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ValidationError(f"Template error: {name} needs a list of {wanted} elements")
    return argument


def _ref(scope: Scope, argument: Any) -> Any:
    if not isinstance(argument, str):
        raise ValidationError("Template error: all Ref references must be of a text")
    return scope.reference(argument)


def _attribute_parts(argument: Any) -> tuple[str, Any]:
    if isinstance(argument, str):
        first, _, rest = argument.partition(".")
        return first, rest
    if isinstance(argument, list) and len(argument) == 2 and isinstance(argument[0], str):
        return argument[0], argument[1]
    raise ValidationError("Template error: every Fn::GetAtt object requires two non-empty parameters")


def _get_att(scope: Scope, argument: Any) -> Any:
    logical_id, name = _attribute_parts(argument)
    return scope.attribute(logical_id, scope.text(name, "Fn::GetAtt"))


def _sub_parts(argument: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(argument, str):
        return argument, {}
    if (
        isinstance(argument, list) and len(argument) == 2
        and isinstance(argument[0], str) and isinstance(argument[1], dict)
    ):  # fmt: skip
        return argument[0], argument[1]
    raise ValidationError("Template error: Fn::Sub needs a text, or a list of a text and a mapping")


def _sub(scope: Scope, argument: Any) -> str:
    text, given = _sub_parts(argument)
    own = {name: scope.text(value, "Fn::Sub") for name, value in given.items()}
    parts, last = [], 0
    for found in _REFERENCE.finditer(text):
        parts.append(scope.grown(text[last : found.start()]))
        parts.append(scope.grown(_substitute(scope, found, own)))
        last = found.end()
    return scope.grown("".join([*parts, text[last:]]))


def _substitute(scope: Scope, found: re.Match[str], own: Mapping[str, str]) -> str:
    escape, name = found[1], found[2].strip()
    if escape:
        return f"${{{found[2]}}}"
    if name in own:
        return own[name]
    logical_id, dot, attribute = name.partition(".")
    value = scope.attribute(logical_id, attribute) if dot else scope.reference(name)
    return scope.text(value, "Fn::Sub")


def _join(scope: Scope, argument: Any) -> str:
    separator, values = _arguments(argument, "Fn::Join", 2, 2)
    texts, between = scope.texts(values, "Fn::Join"), scope.text(separator, "Fn::Join")
    if sum(map(len, texts)) + len(between) * len(texts) > TEXT_MAX:
        raise ValidationError("Template error: its functions make texts that are too long")
    return scope.grown(between.join(texts))


def _split(scope: Scope, argument: Any) -> list[str]:
    separator, text = (scope.text(one, "Fn::Split") for one in _arguments(argument, "Fn::Split", 2, 2))
    if not separator:
        raise ValidationError("Template error: Fn::Split needs a separator")
    return scope.grown(text).split(separator)


def _select(scope: Scope, argument: Any) -> Any:
    index, values = _arguments(argument, "Fn::Select", 2, 2)
    number, listed = scope.text(index, "Fn::Select"), scope.resolve(values)
    if not isinstance(listed, list) or not number.isdecimal() or int(number) >= len(listed):
        raise ValidationError(f"Template error: Fn::Select cannot select nonexistent value at index {number}")
    return listed[int(number)]


def _find_in_map(scope: Scope, argument: Any) -> Any:
    parts = _arguments(argument, "Fn::FindInMap", 3, 4)
    names = [scope.text(one, "Fn::FindInMap") for one in parts[:3]]
    found: Any = scope.template.mappings
    for name in names:
        if not isinstance(found, dict) or name not in found:
            if len(parts) == 4 and isinstance(parts[3], dict) and set(parts[3]) == {"DefaultValue"}:
                return scope.resolve(parts[3]["DefaultValue"])
            raise ValidationError(f"Template error: Unable to get mapping for {'::'.join(names)}")
        found = found[name]
    return found


def _import_value(scope: Scope, argument: Any) -> str:
    return scope.lookups.imported(scope.text(argument, "Fn::ImportValue"))


def _base64(scope: Scope, argument: Any) -> str:
    return scope.grown(base64.b64encode(scope.text(argument, "Fn::Base64").encode()).decode())


def _get_azs(scope: Scope, argument: Any) -> list[str]:
    """There is one zone here, the one that EC2's subnets show."""
    return [(scope.text(argument, "Fn::GetAZs") or str(scope.names["AWS::Region"])) + "a"]


# --- conditions


def _truth(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ValidationError(f"Template error: {name} is no condition")


def _condition(scope: Scope, argument: Any) -> bool:
    return scope.condition(str(argument))


def _if(scope: Scope, argument: Any) -> Any:
    name, then, otherwise = _arguments(argument, "Fn::If", 3, 3)
    holds = scope.condition(name) if isinstance(name, str) else _truth(scope.resolve(name), "Fn::If")
    return scope.resolve(then if holds else otherwise)


def _equals(scope: Scope, argument: Any) -> bool:
    first, second = (scope.resolve(one) for one in _arguments(argument, "Fn::Equals", 2, 2))
    return bool(_comparable(first) == _comparable(second))


def _comparable(value: Any) -> Any:
    return as_text(value, "Fn::Equals") if isinstance(value, str | int | float) else value


def _and(scope: Scope, argument: Any) -> bool:
    return all(_truth(scope.resolve(one), "Fn::And") for one in _arguments(argument, "Fn::And", 2, 10))


def _or(scope: Scope, argument: Any) -> bool:
    return any(_truth(scope.resolve(one), "Fn::Or") for one in _arguments(argument, "Fn::Or", 2, 10))


def _not(scope: Scope, argument: Any) -> bool:
    return not _truth(scope.resolve(_arguments(argument, "Fn::Not", 1, 1)[0]), "Fn::Not")


def _contains(scope: Scope, argument: Any) -> bool:
    """Of rules alone."""
    values, wanted = _arguments(argument, "Fn::Contains", 2, 2)
    return scope.text(wanted, "Fn::Contains") in scope.texts(values, "Fn::Contains")


_FUNCTIONS: Final[Mapping[str, Callable[[Scope, Any], Any]]] = {
    "Ref": _ref,
    "Condition": _condition,
    "Fn::GetAtt": _get_att,
    "Fn::Sub": _sub,
    "Fn::Join": _join,
    "Fn::Split": _split,
    "Fn::Select": _select,
    "Fn::FindInMap": _find_in_map,
    "Fn::ImportValue": _import_value,
    "Fn::Base64": _base64,
    "Fn::GetAZs": _get_azs,
    "Fn::If": _if,
    "Fn::Equals": _equals,
    "Fn::And": _and,
    "Fn::Or": _or,
    "Fn::Not": _not,
    "Fn::Contains": _contains,
}
