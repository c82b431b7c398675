"""Which operation of S3's model a request means: by its method, what it names, and its query keys.

A query key that the operation found does not know is never passed over: `PUT /bucket/key?something` is not PutObject.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Final

from botocore.model import OperationModel

from emberbox.s3.errors import S3Error
from emberbox.spec.models import load_operation, operation_names, trait

SERVICE: Final = "s3"
_ELSEWHERE: Final = frozenset({"ListDirectoryBuckets", "WriteGetObjectResponse"})  # of other hosts than S3's own
_DISCRIMINATOR: Final = "x-amz-copy-source"
_ADDS_NOTHING: Final = ("x-amz-", "x-id")  # signatures, and what the SDKs say about themselves
_VERSION_2: Final = frozenset({"AWSAccessKeyId", "Signature", "Expires", "content-type", "content-md5"})


class Level(IntEnum):
    """What a path names."""

    SERVICE = 0
    BUCKET = 1
    OBJECT = 2


@dataclass(frozen=True, slots=True)
class Route:
    """How one operation is asked for.

    Attributes:
        name: the operation's name.
        model: its model.
        literals: the query keys that stand in its URI, with the values that must be theirs.
        required: further query keys that it needs.
        known: all query keys that it knows.
        is_copy: it has a header that names a source.
    """

    name: str
    model: OperationModel
    literals: Mapping[str, str]
    required: frozenset[str]
    known: frozenset[str]
    is_copy: bool

    def fits(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        """Say whether a request has what the operation needs."""
        return (
            all(key in query and value in ("", query[key]) for key, value in self.literals.items())
            and self.required <= query.keys()
            and (not self.is_copy or _DISCRIMINATOR in headers)
        )

    @property
    def rank(self) -> tuple[int, int, bool]:
        """How particular it is; of two that fit, the more particular one is meant."""
        return len(self.literals), len(self.required) + self.is_copy, not self.model.deprecated


def find_route(method: str, level: Level, query: Mapping[str, str], headers: Mapping[str, str]) -> Route:
    """Return the operation that a request means.

    Raises:
        S3Error: MethodNotAllowed, or NotImplemented for a query key that the operation does not know.
    """
    fitting = [route for route in _routes().get((method, level), ()) if route.fits(query, headers)]
    if not fitting:
        raise S3Error("MethodNotAllowed", Method=method)
    route = max(fitting, key=lambda one: one.rank)
    for key in query:
        if key not in route.known and not key.lower().startswith(_ADDS_NOTHING) and key not in _VERSION_2:
            raise S3Error("NotImplemented", Query=key[:64])
    return route


@cache
def _routes() -> Mapping[tuple[str, Level], tuple[Route, ...]]:
    found: dict[tuple[str, Level], list[Route]] = {}
    for name in operation_names(SERVICE):
        if name not in _ELSEWHERE:
            model = load_operation(SERVICE, name)
            path, _, query = model.http["requestUri"].partition("?")
            found.setdefault((model.http["method"], Level(path.count("{"))), []).append(_route(name, model, query))
    return {place: tuple(routes) for place, routes in found.items()}


def _route(name: str, model: OperationModel, query: str) -> Route:
    literals = dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    shape = model.input_shape
    members = shape.members if shape is not None else {}
    wire = {
        key: member.serialization.get("name", key)
        for key, member in members.items()
        if member.serialization.get("location") == "querystring"
    }
    required = {wire[key] for key in (trait(shape, "required") or ()) if key in wire} if shape is not None else set()
    return Route(
        name, model, literals, frozenset(required), frozenset(wire.values()) | literals.keys(), "CopySource" in members
    )
