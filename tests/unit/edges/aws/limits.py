"""Requests at every limit of a service model and one past it, made from the model alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.model import OperationModel, Shape

from emberbox.spec.patterns import compile_pattern

ACCOUNT, REGION = "123456789012", "us-east-1"
_LAMBDA = f"arn:aws:lambda:{REGION}:{ACCOUNT}"
SEEDS = (
    "a", "A1", "aa", "1", "12", "2026-01-02", ACCOUNT, "subnet-a", "sg-a", "AWS::a::b", "csv",
    f"arn:aws:iam::{ACCOUNT}:role/build", f"{_LAMBDA}:microvm-image:a", f"{_LAMBDA}:network-connector:a",
    f"{_LAMBDA}:runtime/aa", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/a", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:a",
    "00000000-0000-0000-0000-000000000000", "00:00", "/a/", "a=b", "$.a", "#a", "s3://a", "0/1", "arn:aws:s3:::a",
    "vpce-1", "1.1", "s3://aaa", "s3://a/",
)  # fmt: skip
BREAKERS = (" ", "ü", "\t", "*", ":", "", "\n")
_NUMBERS = {"integer", "long", "float", "double"}
_CONTAINERS = {"structure", "list", "map"}
_LONGEST = 20_000  # a limit of a megabyte is checked by nobody's code but the one that checks all others
_DEPTH = 6


@dataclass(frozen=True)
class Case:
    """One request: its parameters, and what the refusal must say; None for a request that must pass."""

    parameters: dict[str, Any]
    place: str
    phrase: str | None


def text(shape: Shape, length: int | None = None) -> str | None:
    """Return a string of a shape, of a certain length where one is asked for; None when there is none."""
    if shape.enum:
        return str(shape.enum[0])
    least, most = int(shape.metadata.get("min", 0)), int(shape.metadata.get("max", _LONGEST))
    pattern = shape.metadata.get("pattern")
    fits = compile_pattern(pattern).fullmatch if pattern else (lambda _: True)
    for seed in SEEDS:
        wanted = length if length is not None else min(max(len(seed), least), most)
        grown = seed[:wanted] + seed[-1] * max(0, wanted - len(seed))
        if fits(grown):
            return grown
    return None


def example(shape: Shape, depth: int = 0) -> Any:
    """Return a value of a shape that breaks no constraint, every member set; of a union the first."""
    match shape.type_name:
        case "structure":
            members = list(shape.members.items())
            members = members[:1] if shape.metadata.get("union") else members
            return {
                name: example(member, depth + 1)
                for name, member in members
                if depth < _DEPTH or name in shape.required_members
            }
        case "list":
            return [example(shape.member, depth + 1)] * max(1, shape.metadata.get("min") or 0)
        case "map":
            count = max(1, shape.metadata.get("min") or 0)
            return {key(shape, number): example(shape.value, depth + 1) for number in range(count)}
        case "string":
            made = text(shape)
            assert made is not None, f"no example of {shape.name} {shape.metadata}"
            return made
        case "boolean":
            return True
        case "blob":
            return b"x" * max(1, int(shape.metadata.get("min") or 0))
        case "timestamp":
            return 1
    return int(shape.metadata.get("min") or 0)


def key(shape: Shape, number: int) -> str:
    """Return the key of an entry of a map, each number's another."""
    if shape.key.enum:
        return str(shape.key.enum[number % len(shape.key.enum)])
    most = int(shape.key.metadata.get("max", 64))
    return (f"k{number}" + "k" * int(shape.key.metadata.get("min") or 0))[:most]


def cases(operation: OperationModel) -> Iterator[Case]:
    """Yield the requests for every limit of an operation's input."""
    shape = operation.input_shape
    if shape is None:
        return
    whole = example(shape)
    yield Case(whole, "", None)
    yield from _structure_cases(shape, whole, [], "", in_path=False)


def _structure_cases(
    shape: Shape, whole: dict[str, Any], path: list[Any], place: str, *, in_path: bool, depth: int = 0
) -> Iterator[Case]:
    union = bool(shape.metadata.get("union"))
    if union and path:
        yield Case(_with(whole, path, {}), place, "Member must have exactly one of its members set")
    for name, member in shape.members.items():
        inner = f"{place}.{_camel(name)}" if place else _camel(name)
        located = member.serialization.get("location") == "uri"
        if name in shape.required_members and not located:
            yield Case(_without(whole, [*path, name]), inner, "Member must not be null")
        base = _with(whole, path, {name: example(member, depth + 1)}) if union else whole
        if depth < _DEPTH:
            yield from _value_cases(member, base, [*path, name], inner, in_path=located, depth=depth + 1)


def _value_cases(
    shape: Shape, whole: dict[str, Any], path: list[Any], place: str, *, in_path: bool, depth: int
) -> Iterator[Case]:
    for value, phrase in _values(shape, in_path=in_path):
        yield Case(_with(whole, path, value), place, phrase)
    match shape.type_name:
        case "structure":
            yield from _structure_cases(shape, whole, path, place, in_path=False, depth=depth)
        case "list":
            if shape.member.type_name in _CONTAINERS:
                yield from _value_cases(
                    shape.member, whole, [*path, 0], f"{place}.1.member", in_path=False, depth=depth
                )
            else:
                for value, phrase in _values(shape.member, in_path=False):
                    yield Case(_with(whole, path, [value]), place, phrase and "Member must satisfy constraint: [")
        case "map":
            for value, phrase in _values(shape.key, in_path=False):
                entry = {value: example(shape.value, depth)}
                if value and _size_allows(shape, entry):
                    yield Case(_with(whole, path, entry), place, phrase and "Map keys must satisfy constraint: [")
            for value, phrase in _values(shape.value, in_path=False):
                if shape.value.type_name not in _CONTAINERS and _size_allows(shape, {"k": value}):
                    entry = {key(shape, 0): value}
                    yield Case(_with(whole, path, entry), place, phrase and "Map value must satisfy constraint: [")


def _size_allows(shape: Shape, value: Any) -> bool:
    return len(value) >= int(shape.metadata.get("min") or 0)


def _values(shape: Shape, *, in_path: bool) -> Iterator[tuple[Any, str | None]]:
    """Yield values at each limit of a shape and one past it, with what a refusal says of it."""
    kind = "value" if shape.type_name in _NUMBERS else "length"
    for name, step, words in (("max", 1, "less"), ("min", -1, "greater")):
        limit = shape.metadata.get(name)
        if limit is None or (kind == "length" and limit > _LONGEST):
            continue
        limit = int(limit)
        edge, past = _sized(shape, limit, strict=True), _sized(shape, limit + step, strict=False)
        if edge is not None and not (in_path and edge == ""):
            yield edge, None
        beyond = shape.type_name == "integer" and limit + step >= 1 << 31
        if past is not None and not (in_path and past == "") and not beyond:
            yield past, f"Member must have {kind} {words} than or equal to {limit}"
    yield from _pattern_values(shape, in_path=in_path)


def _pattern_values(shape: Shape, *, in_path: bool) -> Iterator[tuple[Any, str | None]]:
    if shape.type_name != "string":
        return
    if shape.enum:
        yield from ((value, None) for value in shape.enum)
        yield "NO_SUCH_VALUE", "Member must satisfy enum value set: ["
    if pattern := shape.metadata.get("pattern"):
        matches = compile_pattern(pattern).fullmatch
        for value in BREAKERS:
            if not matches(value) and not (in_path and value in ("", "\n")):
                yield value, "Member must satisfy regular expression pattern: "
                return


def _sized(shape: Shape, size: int, *, strict: bool) -> Any:
    """Return a value of a size; None when there is none. Unless `strict`, it may break other constraints."""
    if shape.type_name in _NUMBERS:
        return size
    if size < 0:
        return None
    match shape.type_name:
        case "string":
            if shape.enum:
                return None
            made = text(shape, size)
            return made if made is not None or strict else "a" * size
        case "list":
            return [example(shape.member)] * size
        case "map":
            made_map = {key(shape, number): example(shape.value) for number in range(size)}
            return made_map if len(made_map) == size else None
        case "blob":
            return b"x" * size
    return None


def _with(whole: dict[str, Any], path: list[Any], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


def _without(whole: dict[str, Any], path: list[Any]) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return changed


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]
