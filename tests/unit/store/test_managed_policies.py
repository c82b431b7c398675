"""Managed policies and what is attached, as rows; and roles of a database that an earlier release made."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from emberbox.model.iam.access import NOT_KNOWN, ROLE_SESSION_MAX_S, Attachment, ManagedPolicy, Role
from emberbox.store.access import AccessStore
from emberbox.store.database import Database
from emberbox.store.schema import metadata

ACCOUNT = "111111111111"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NEW_COLUMNS = ("path", "trust_document", "max_session_s", "tags", "created_at", "defined")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/emberbox.db", metadata)
    yield database
    database.close()


def policy(name: str, account: str = ACCOUNT) -> ManagedPolicy:
    return ManagedPolicy(account, name, "/a/", "words", "{}", {"k": "v"}, NOW)


def role(name: str, **more: object) -> Role:
    return Role(ACCOUNT, name, "", None, None, NOW, **more)  # type: ignore[arg-type]


def test_a_policy_of_a_name_is_added_once_in_each_account(database: Database) -> None:
    store = AccessStore(database).managed
    assert store.add(policy("one"))
    assert not store.add(policy("one"))
    assert store.add(policy("one", "222222222222"))
    assert store.list_all() == [policy("one"), policy("one", "222222222222")]
    assert policy("one").arn == f"arn:aws:iam::{ACCOUNT}:policy/a/one"
    store.remove(policy("one"))
    assert store.list_all() == [policy("one", "222222222222")]


def test_attachments_go_with_their_role_and_not_when_it_changes(database: Database) -> None:
    store = AccessStore(database)
    first, second = Attachment(ACCOUNT, "app", "arn:1"), Attachment(ACCOUNT, "other", "arn:1")
    store.put_role(role("app"), None)
    for attachment in (second, first, first):
        store.managed.attach(attachment)
    assert store.managed.list_attachments() == [first, second]
    changed = role("app", path="/x/", trust_document="{}", max_session_s=3600, tags={"a": "b"}, defined=False)
    store.update_role(changed)
    assert store.list_roles() == [changed]
    assert store.managed.list_attachments() == [first, second]
    store.managed.detach(second)
    store.remove_role(changed)
    assert store.managed.list_attachments() == []


def test_roles_of_an_earlier_release_are_the_operators(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/emberbox.db"
    database = Database(url, metadata)
    AccessStore(database).put_role(role("old"), None)
    with database.transaction() as connection:
        for name in NEW_COLUMNS:
            connection.execute(text(f"ALTER TABLE roles DROP COLUMN {name}"))
        connection.execute(text("DROP TABLE managed_policies"))
        connection.execute(text("DROP TABLE attached_policies"))
    database.close()
    database = Database(url, metadata)
    (found,) = AccessStore(database).list_roles()
    database.close()
    assert (found.path, found.trust_document, found.tags, found.defined) == ("/", "", {}, True)
    assert (found.max_session_s, found.created_at) == (ROLE_SESSION_MAX_S, NOT_KNOWN)
