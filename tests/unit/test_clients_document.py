"""docs/clients.md says what tests/clients shows."""

from __future__ import annotations

from support.clients_document import DOCUMENT, read_table, render, sentences


def test_the_document_is_not_stale() -> None:
    assert DOCUMENT.read_text() == render(), "run python tests/support/clients_document.py"


def test_every_client_is_pinned_and_driven_or_its_absence_explained() -> None:
    clients, limits = read_table()
    driven = {client for client, _ in sentences()}
    assert driven | {limit.client for limit in limits} == clients.keys()
    assert all(row["version"][0].isdigit() for row in clients.values())
    assert all(sentence.endswith(".") for _, sentence in sentences())
