"""Parameters of the protocols query and EC2: a form of dotted names, read as the model's structures.

    Tags.member.1.Key=team&Tags.member.1.Value=red        query
    Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1           EC2

botocore's serialisers write these names (`QuerySerializer`, `EC2Serializer`); this is the way back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.model import Shape

from emberbox.edges.aws.dialects import Dialect
from emberbox.edges.aws.errors import SerializationError
from emberbox.edges.aws.http import HttpRequest, decode_pairs
from emberbox.edges.aws.parse import parse_form_text
from emberbox.edges.aws.routing import Match

PAIRS_MAX: Final = 10_000
"""More would keep the server busy; the longest lists of the models have some hundreds."""

_DEPTH_MAX: Final = 24
_INDEX: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_VALUE: Final = ""
"""Where a node of the tree has its own text; no part of a name is empty."""

_Node = dict[str, Any]
"""The names below one name. Any: nodes below, and the text."""


def form_pairs(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the decoded names and values of a request: of its query string, then of its body.

    Raises:
        SerializationError: the body is no text, or has too many names.
    """
    if request.body.count(b"&") > PAIRS_MAX:
        raise SerializationError(f"The request has more than {PAIRS_MAX} parameters")
    try:
        return [*request.query_pairs(), *decode_pairs(request.body.decode())]
    except UnicodeDecodeError as error:
        raise SerializationError("The request body is not UTF-8") from error


def parse_form(match: Match, dialect: Dialect, request: HttpRequest) -> dict[str, Any]:
    """Read the parameters of an operation.

    Args:
        match: the operation.
        dialect: QUERY or EC2; they name members differently.
        request: the request.

    Returns:
        The parameters by their names in the model; what the model does not know is left out.

    Raises:
        SerializationError: a value does not have its type, or a name has no end.
    """
    shape = match.operation.input_shape
    if shape is None:
        return {}
    names = _ec2_name if dialect is Dialect.EC2 else _query_name
    return _Form(names, dialect is Dialect.EC2).structure(shape, _grow(form_pairs(request)))


def _grow(pairs: list[tuple[str, str]]) -> _Node:
    root: _Node = {}
    for name, value in pairs:
        parts = name.split(".")
        if len(parts) > _DEPTH_MAX:
            raise SerializationError(f"A parameter's name has more than {_DEPTH_MAX} parts")
        node = root
        for part in filter(None, parts):
            node = node.setdefault(part, {})
        node.setdefault(_VALUE, value)
    return root


class _Form:
    """Reads nodes as shapes.

    Args:
        name_of: returns a member's name in the form.
        flat: lists have no name of their own for their members, as in EC2.
    """

    def __init__(self, name_of: Callable[[str, Shape], str], flat: bool) -> None:
        self._name_of = name_of
        self._flat = flat

    def structure(self, shape: Shape, node: _Node) -> dict[str, Any]:
        found = {}
        for name, member in shape.members.items():
            below = node.get(self._wire_name(name, member))
            if below is not None:
                found[name] = self._value(member, below)
        return found

    def _wire_name(self, name: str, member: Shape) -> str:
        if member.type_name == "list" and not self._flat and member.serialization.get("flattened"):
            return str(member.member.serialization.get("name") or self._name_of(name, member))
        return self._name_of(name, member)

    def _value(self, shape: Shape, node: _Node) -> Any:
        match shape.type_name:
            case "structure":
                return self.structure(shape, node)
            case "list":
                return [self._value(shape.member, item) for item in self._items(shape, node)]
            case "map":
                return dict(self._entry(shape, item) for item in self._entries(shape, node))
        text = node.get(_VALUE)
        if text is None:
            raise SerializationError("Start of structure or list found where not expected")
        return parse_form_text(shape, text)

    def _items(self, shape: Shape, node: _Node) -> list[_Node]:
        if not self._flat and not shape.serialization.get("flattened"):
            node = node.get(shape.member.serialization.get("name", "member"), {})
        return _in_order(node)

    def _entries(self, shape: Shape, node: _Node) -> list[_Node]:
        return _in_order(node if shape.serialization.get("flattened") else node.get("entry", {}))

    def _entry(self, shape: Shape, node: _Node) -> tuple[Any, Any]:
        key = node.get(shape.key.serialization.get("name", "key"))
        value = node.get(shape.value.serialization.get("name", "value"))
        if key is None or value is None:
            raise SerializationError("An entry of a map has no key or no value")
        return self._value(shape.key, key), self._value(shape.value, value)


def _in_order(node: Mapping[str, _Node]) -> list[_Node]:
    """Return the numbered nodes; gaps do not matter."""
    numbers = sorted(int(name) for name in node if _INDEX.fullmatch(name))
    return [node[str(number)] for number in numbers]


def _query_name(name: str, member: Shape) -> str:
    return str(member.serialization.get("name", name))


def _ec2_name(name: str, member: Shape) -> str:
    """EC2 has a name for requests alone; else the one of answers, which begins with a capital here."""
    if "queryName" in member.serialization:
        return str(member.serialization["queryName"])
    wire = str(member.serialization.get("name", name))
    return wire[:1].upper() + wire[1:]
