"""Pages of lists: which one is asked for, and where the next begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from starlette.responses import JSONResponse, Response

from emberbox.control.requests.paging import Page, PageRequest
from emberbox.edges.sandboxes.call import Call, Json
from emberbox.edges.sandboxes.errors import ApiError

PAGE_MAX: Final = 100
NEXT_TOKEN_HEADER: Final = "x-next-token"  # noqa: S105 - the header's name

Item = TypeVar("Item")


def read_page(call: Call) -> PageRequest:
    """Return which page is asked for.

    Raises:
        ApiError: its length is none.
    """
    query = call.request.query_params
    limit = query.get("limit", str(PAGE_MAX))
    if not limit.isdecimal() or len(limit) > len(str(PAGE_MAX)) or not 1 <= int(limit) <= PAGE_MAX:
        raise ApiError(400, f"limit must be 1 to {PAGE_MAX}")
    return PageRequest(int(limit), query.get("nextToken") or None)


def show_page(page: Page[Item], show: Callable[[Item], Json]) -> Response:
    """Return a page; a header says where the next begins, if there is one."""
    headers = {NEXT_TOKEN_HEADER: page.next_token} if page.next_token else None
    return JSONResponse([show(item) for item in page.items], headers=headers)
