"""What all of IAM's operations have in common: pages, tags, documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from emberbox.control.requests.paging import PageRequest, PageTokens, cut_page
from emberbox.edges.aws.operations.handler import Members, Parameters

PAGE: Final = ("Marker", "MaxItems")
"""The parameters that say which page of a list is asked for."""

_PAGE_DEFAULT: Final = 100


def read_tags(parameters: Parameters) -> dict[str, str]:
    """Return the tags of a request, which IAM has as pairs."""
    return {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", ())}


def show_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as pairs."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def show_page(
    pages: PageTokens, operation: str, member: str, found: Sequence[Any], parameters: Parameters
) -> Members:  # Any: what the list has
    """Return the page of a list that a request asks for."""
    asked = PageRequest(parameters.get("MaxItems", _PAGE_DEFAULT), parameters.get("Marker"))
    page = cut_page(pages, f"iam:{operation}", found, asked)
    return {member: list(page.items), "IsTruncated": page.next_token is not None, "Marker": page.next_token}


def quoted(document: str) -> str:
    """Return a document as IAM sends it: percent-encoded."""
    return quote(document, safe="")
