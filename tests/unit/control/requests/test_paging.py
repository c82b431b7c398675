"""Page tokens and pages."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberbox.control.requests.paging import PageRequest, PageTokens, cut_page
from emberbox.model.errors import ValidationError


@pytest.fixture
def tokens(tmp_path: Path) -> PageTokens:
    return PageTokens(tmp_path / "secrets" / "pages.key")


def test_a_place_comes_back(tokens: PageTokens) -> None:
    assert tokens.open("List", tokens.seal("List", [1.5, "id"])) == [1.5, "id"]
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert tokens.open_moment("List", tokens.seal("List", [moment.timestamp(), "x"])) == (moment, "x")
    assert tokens.open_moment("List", None) is None


def test_tokens_survive_a_restart_and_the_key_is_private(tmp_path: Path) -> None:
    token = PageTokens(tmp_path / "key").seal("List", [7])
    assert PageTokens(tmp_path / "key").open("List", token) == [7]
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_tokens_are_safe_in_a_url(tokens: PageTokens) -> None:
    token = tokens.seal("List", ["?" * 100])
    assert token.replace("-", "").replace("_", "").isalnum()


def test_another_operations_token_is_refused(tokens: PageTokens) -> None:
    with pytest.raises(ValidationError, match="Invalid nextToken"):
        tokens.open("Other", tokens.seal("List", [1]))


def test_another_servers_token_is_refused(tokens: PageTokens, tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        tokens.open("List", PageTokens(tmp_path / "other").seal("List", [1]))


@pytest.mark.parametrize("token", ["", "x", "====", "nonsense", "A" * 1000, "ü"])
def test_nonsense_is_refused(tokens: PageTokens, token: str) -> None:
    with pytest.raises(ValidationError):
        tokens.open("List", token)


def test_a_changed_token_is_refused(tokens: PageTokens) -> None:
    token = tokens.seal("List", [1])
    for place in range(len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(ValidationError):
            tokens.open("List", changed)


@given(st.integers(0, 30), st.integers(1, 7))
def test_pages_hold_every_item_once(tmp_path_factory: pytest.TempPathFactory, count: int, limit: int) -> None:
    tokens = PageTokens(tmp_path_factory.mktemp("pages") / "key")
    items, seen = list(range(count)), []
    asked = PageRequest(limit)
    while True:
        page = cut_page(tokens, "List", items, asked)
        assert len(page.items) <= limit
        seen += page.items
        if page.next_token is None:
            break
        asked = PageRequest(limit, page.next_token)
    assert seen == items
