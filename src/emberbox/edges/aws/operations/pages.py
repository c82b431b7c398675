"""Pages of lists in AWS's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from emberbox.control.requests.paging import DEFAULT_PAGE, Page, PageRequest
from emberbox.edges.aws.operations.handler import Members, Parameters

T = TypeVar("T")


def read_page(parameters: Parameters, default: int = DEFAULT_PAGE) -> PageRequest:
    """Return which page of a list is asked for."""
    return PageRequest(parameters.get("maxResults", default), parameters.get("nextToken"))


def show_page(page: Page[T], show: Callable[[T], Mapping[str, Any]]) -> Members:  # Any: see Members
    """Return a page as the operations that list something answer it."""
    return {"items": [show(item) for item in page.items], "nextToken": page.next_token}
