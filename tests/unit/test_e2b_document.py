"""docs/e2b.md lists the calls of E2B's SDKs that the tests make, as they are now."""

from __future__ import annotations

from support.e2b_document import DOCUMENT, PARTS, calls_of, put_in, write_table


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text()
    assert put_in(text) == text, "run PYTHONPATH=tests python -m support.e2b_document"


def test_every_call_of_the_sdks_is_in_the_table() -> None:
    table = write_table()
    assert all(f"`{name}`" in table for part in PARTS for name in calls_of(part))
