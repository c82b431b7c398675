"""Templates as text: JSON, or YAML with CloudFormation's short tags, read into plain values.

PyYAML parses. What CloudFormation does not take of YAML (aliases, merges of hashes) is refused, so the values are never
larger than their text; dates stay text, as in `Version: 2012-10-17`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import yaml

from emberbox.model.errors import ValidationError

DEPTH_MAX: Final = 100
"""Levels of a template; CloudFormation's own documents have some twenty."""

_PARSER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # Any: the quick one is not everywhere
_NOT_PREFIXED: Final = frozenset({"Ref", "Condition"})
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Loader(_PARSER):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe loader without dates, and with tags such as `!Sub`."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name for it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in _PARSER.yaml_implicit_resolvers.items()
    }


def _construct_mapping(loader: Any, node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _malformed("a name is no text")
        key = key_node.value  # as it is written: `Yes` and `2012-10-17` are names too
        if key in found:
            raise _malformed(f"{key} is given twice in one mapping (line {key_node.start_mark.line + 1})")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


def _construct_function(loader: Any, suffix: str, node: Any) -> dict[str, Any]:
    """`!GetAtt a.b` is `Fn::GetAtt: [a, b]`; every other tag stands for the function of its name."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = _construct_mapping(loader, node)
    return {suffix if suffix in _NOT_PREFIXED else f"Fn::{suffix}": value}


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_multi_constructor("!", _construct_function)


def read_values(text: str) -> Any:
    """Return what a template's text says.

    Args:
        text: JSON, where it begins with a brace; YAML otherwise.

    Raises:
        ValidationError: it cannot be read; the text names the place.
    """
    if text.lstrip().startswith("{"):
        try:
            return _checked(json.loads(text, object_pairs_hook=_unique_names))
        except (json.JSONDecodeError, RecursionError):
            pass  # a flow mapping of YAML begins with a brace too, and YAML's errors name the place as well
    try:
        _check_events(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        raise _malformed(" ".join(str(error).split())) from None
    except (RecursionError, ValueError) as error:
        raise _malformed(str(error)) from None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _malformed(f"{next(name for name in names if names.count(name) > 1)} is given twice in one object")
    return found


def _checked(values: Any) -> Any:
    """Return values that are nested no deeper than YAML may be."""
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise _malformed(f"it is nested more than {DEPTH_MAX} levels deep")
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    return values


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.AliasEvent):
            raise _malformed("aliases of YAML are not taken")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise _malformed(f"it is nested more than {DEPTH_MAX} levels deep")


def _malformed(why: str) -> ValidationError:
    return ValidationError(f"Template format error: {why}")
