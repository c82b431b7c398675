"""A template's parameters: what a request gives, checked against what the template declares.

"Parameters" and "Rules" of CloudFormation's template reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from emberbox.model.errors import ValidationError
from emberbox.model.stacks.intrinsics import Scope
from emberbox.model.stacks.patterns import matches
from emberbox.model.stacks.template import DeclaredParameter, Template

HIDDEN: Final = "****"
"""What is shown of a parameter that has NoEcho."""

VALUE_MAX: Final = 4096
SSM_PREFIX: Final = "AWS::SSM::Parameter::Value<"
_LISTS: Final = ("CommaDelimitedList", "List<")
_TYPES: Final = re.compile(
    r"String|Number|CommaDelimitedList|List<Number>|List<AWS::[A-Za-z0-9:]+>|AWS::SSM::Parameter::Name"
    r"|AWS::SSM::Parameter::Value<(String|CommaDelimitedList|List<String>|AWS::[A-Za-z0-9:]+)>|AWS::[A-Za-z0-9:]+"
)
_NUMBER: Final = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)

FindStored = Callable[[str], str | None]
"""Returns the value of a parameter that is stored under a name; None where there is none."""


def choose_values(
    template: Template, given: Mapping[str, str], kept: frozenset[str], earlier: Mapping[str, str]
) -> dict[str, str]:
    """Return the text of each parameter: as given, as before, or by default.

    Args:
        template: declares them.
        given: values of a request.
        kept: names that have the earlier value.
        earlier: values of the stack.

    Raises:
        ValidationError: one has no value, is not declared, or breaks its own constraints.
    """
    if unknown := sorted((given.keys() | kept) - template.parameters.keys()):
        raise ValidationError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    values = {}
    for name, declared in template.parameters.items():
        value = earlier.get(name) if name in kept else given.get(name, declared.default)
        if value is not None:
            values[name] = value
    if missing := sorted(template.parameters.keys() - values.keys()):
        raise ValidationError(f"Parameters: [{', '.join(missing)}] must have values")
    for name, value in values.items():
        _check(template.parameters[name], value)
    return values


def _check(declared: DeclaredParameter, value: str) -> None:
    if not _TYPES.fullmatch(declared.type):
        raise ValidationError(f"Template format error: Unrecognized parameter type: {declared.type}")
    if len(value) > VALUE_MAX:
        raise _broken(declared, f"is longer than {VALUE_MAX} characters")
    for one in _split(value) if is_list(declared.type) else [value]:
        _check_one(declared, one)


def _check_one(declared: DeclaredParameter, value: str) -> None:
    name = declared.name
    if declared.allowed_values and value not in declared.allowed_values:
        raise _broken(declared, f"must be one of the values [{', '.join(declared.allowed_values)}]")
    if declared.allowed_pattern is not None and not _matches(name, declared.allowed_pattern, value):
        raise _broken(declared, f"must match pattern {declared.allowed_pattern}")
    shortest, longest = declared.lengths
    if shortest is not None and len(value) < shortest:
        raise _broken(declared, f"must contain at least {shortest} characters")
    if longest is not None and len(value) > longest:
        raise _broken(declared, f"must contain at most {longest} characters")
    if declared.type in ("Number", "List<Number>"):
        if not _NUMBER.fullmatch(value):
            raise _broken(declared, "must be a number")
        least, most = declared.bounds
        if least is not None and float(value) < least:
            raise _broken(declared, f"must be a number not less than {least:g}")
        if most is not None and float(value) > most:
            raise _broken(declared, f"must be a number not greater than {most:g}")


def _matches(name: str, pattern: str, value: str) -> bool:
    try:
        return matches(pattern, value)
    except ValueError as error:
        raise ValidationError(f"Parameter {name}: AllowedPattern cannot be used: {error}") from None


def _broken(declared: DeclaredParameter, rule: str) -> ValidationError:
    if declared.constraint:
        return ValidationError(f"Parameter {declared.name} failed to satisfy constraint: {declared.constraint}")
    return ValidationError(f"Parameter '{declared.name}' {rule}")


def is_list(kind: str) -> bool:
    """Say whether a parameter of a type is a list."""
    inner = kind.removeprefix(SSM_PREFIX)
    return inner.startswith(_LISTS)


def resolve_stored(template: Template, values: Mapping[str, str], find: FindStored) -> dict[str, str]:
    """Return what parameters stand for whose value is the name of a stored parameter.

    Raises:
        ValidationError: nothing is stored under a name.
    """
    found = {}
    for name, declared in template.parameters.items():
        if declared.type.startswith(SSM_PREFIX):
            stored = find(values[name])
            if stored is None:
                raise ValidationError(
                    f"Unable to fetch parameters [{values[name]}] from parameter store for this account."
                )
            found[name] = stored
    return found


def named_values(template: Template, values: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, Any]:
    """Return parameters by name as `Ref` of them means: a text or a list of texts."""
    return {
        name: _split(text) if is_list(declared.type) else text
        for name, declared in template.parameters.items()
        for text in (stored.get(name, values[name]),)
    }


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def check_rules(scope: Scope) -> None:
    """Hold parameters against the template's rules.

    Raises:
        ValidationError: an assertion does not hold.
    """
    for name, rule in scope.template.rules.items():
        condition = rule.get("RuleCondition") if isinstance(rule, dict) else None
        if condition is not None and scope.resolve(condition) is not True:
            continue
        for one in rule.get("Assertions", ()) if isinstance(rule, dict) else ():
            if scope.resolve(one.get("Assert")) is not True:
                why = one.get("AssertDescription", "an assertion does not hold")
                raise ValidationError(f"Template error: Rule {name} failed: {why}")
