"""Which operation a request means, over all services that answer on the one host.

rest-json operations are found by method and path (several URI families: `/2025-09-09/...`,
`/2026-04-04/...`, `/2017-03-31/tags/...`), json-1.1 operations by the header `X-Amz-Target`. The tables come
from the service models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from botocore.model import OperationModel

from emberbox.edges.aws.errors import UnknownOperationError
from emberbox.edges.aws.http import HttpRequest
from emberbox.spec.models import load_operation, load_service, operation_names


@dataclass(frozen=True, slots=True)
class Match:
    """The operation that a request means.

    Attributes:
        service: botocore's name of the service.
        name: the operation's name.
        operation: its model.
        labels: the decoded path labels, by the names in the URI template.
    """

    service: str
    name: str
    operation: OperationModel
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Route:
    service: str
    name: str
    operation: OperationModel
    template: tuple[str, ...]

    @property
    def is_greedy(self) -> bool:
        return self.template[-1].endswith("+}")

    @property
    def label_count(self) -> int:
        return sum(part.startswith("{") for part in self.template)

    def labels(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """Return the decoded labels when the path has this route's shape, else None."""
        if self.is_greedy:
            last = len(self.template) - 1
            segments = (*segments[:last], "/".join(segments[last:]))
        if len(segments) != len(self.template):
            return None
        found = {}
        for part, segment in zip(self.template, segments, strict=True):
            if part.startswith("{"):
                found[part.strip("{+}")] = unquote(segment)
            elif part != segment:
                return None
        return found


class Router:
    """The route tables of some services, built once.

    Args:
        services: botocore's service names, for example `lambda-microvms`.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._paths: dict[tuple[str, int], list[_Route]] = defaultdict(list)
        self._greedy: dict[str, list[_Route]] = defaultdict(list)
        self._targets: dict[str, Match] = {}
        for service in services:
            if load_service(service).metadata["protocol"] == "json":
                self._add_targets(service)
            else:
                self._add_paths(service)
        for routes in (*self._paths.values(), *self._greedy.values()):
            routes.sort(key=lambda route: route.label_count)  # a literal segment beats a label

    def _add_targets(self, service: str) -> None:
        prefix = load_service(service).metadata["targetPrefix"]
        for name in operation_names(service):
            match = Match(service, name, load_operation(service, name), {})
            self._targets[f"{prefix}.{name}"] = match

    def _add_paths(self, service: str) -> None:
        for name in operation_names(service):
            operation = load_operation(service, name)
            path = operation.http["requestUri"].partition("?")[0]
            route = _Route(service, name, operation, tuple(path.split("/")[1:]))
            method = operation.http["method"]
            if route.is_greedy:
                self._greedy[method].append(route)
            else:
                self._paths[method, len(route.template)].append(route)

    def match(self, request: HttpRequest) -> Match:
        """Find the operation of a request.

        Labels are split before they are decoded, so `%2F` inside a label stays part of it. An empty, `.` or
        `..` segment is never part of a route: the signature covers the path without them.

        Raises:
            UnknownOperationError: nothing has this method and path, or this target.
        """
        target = request.header("x-amz-target")
        if target is not None:
            return self._match_target(request, target)
        segments = tuple(request.raw_path.split("/")[1:])
        if any(segment in {"", ".", ".."} for segment in segments):
            raise UnknownOperationError
        for route in (
            *self._paths.get((request.method, len(segments)), ()),
            *self._greedy.get(request.method, ()),
        ):
            if (labels := route.labels(segments)) is not None:
                return Match(route.service, route.name, route.operation, labels)
        raise UnknownOperationError

    def _match_target(self, request: HttpRequest, target: str) -> Match:
        match = self._targets.get(target)
        if match is None or (request.method, request.raw_path) != ("POST", "/"):
            raise UnknownOperationError
        return match
