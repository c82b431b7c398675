"""The database: transactions, transitions, pages."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from emberbox.model.arns import image_arn
from emberbox.model.clock import Instant
from emberbox.model.errors import HostError
from emberbox.model.image_requests import ImageRequest
from emberbox.model.launch_requests import LaunchRequest
from emberbox.model.records import Build, Image, ImageVersion, LogGroup, Microvm
from emberbox.model.sizes import SnapshotSizes
from emberbox.model.states import (
    MICROVM_TRANSITIONS,
    BuildState,
    ImageState,
    MicrovmState,
    VersionState,
    VersionStatus,
)
from emberbox.store.client_tokens import ClientToken, ClientTokenStore
from emberbox.store.database import Database
from emberbox.store.images import ImageStore
from emberbox.store.logs import GroupSummary, LogStore
from emberbox.store.microvms import MicrovmStore
from emberbox.store.schema import log_metadata, metadata

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ACCOUNT = "000000000000"
REQUEST = ImageRequest("us-east-1", "base", "1.0", "role", "s3://x/y", 512, ("any",), environment={"x": ""})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/test.db", metadata)
    yield database
    database.close()


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[LogStore]:
    database = Database(f"sqlite:///{tmp_path}/logs.db", log_metadata, durable=False)
    yield LogStore(database)
    database.close()


def new_image(name: str = "image", age_s: float = 0) -> tuple[Image, ImageVersion, Build]:
    moment = NOW - timedelta(seconds=age_s)
    image_id = str(uuid.uuid4())
    image = Image(image_id, ACCOUNT, name, f"arn:{name}", ImageState.CREATING, None, None, {"a": "b"}, moment, moment)
    version = ImageVersion(image_id, "1.0", VersionState.PENDING, VersionStatus.INACTIVE, REQUEST, moment, moment)
    return image, version, Build(str(uuid.uuid4()), image_id, "1.0", BuildState.PENDING, None, None, moment)


def new_microvm(age_s: float = 0, **more: object) -> Microvm:
    microvm = Microvm(
        id=f"microvm-{uuid.uuid4()}",
        account_id=ACCOUNT,
        endpoint_label=str(uuid.uuid4()),
        image_id="image",
        image_arn="arn:image",
        image_version="1.0",
        state=MicrovmState.PENDING,
        state_reason=None,
        request=LaunchRequest("", (), (), max_duration_s=5),
        incarnation=1,
        started_at=NOW - timedelta(seconds=age_s),
        terminated_at=None,
        started=Instant(NOW.timestamp(), "boot", 7.0),
    )
    return replace(microvm, **more)  # type: ignore[arg-type]


def test_an_image_is_stored_as_it_is(database: Database) -> None:
    store = ImageStore(database)
    image, version, build = new_image()
    assert store.add(image, version, build, None)
    assert store.find(image.arn) == store.find_by_id(image.id) == image
    assert store.find_version(image.id, "1.0") == version
    assert store.list_builds(image.id, "1.0") == [build]
    assert store.find("arn:other") is None


def test_an_image_is_found_by_account_name_and_region(database: Database) -> None:
    store = ImageStore(database)
    found = {}
    for account, region in ((ACCOUNT, "us-east-1"), (ACCOUNT, "eu-west-9"), ("999999999999", "us-east-1")):
        image, version, build = new_image("web")
        image = replace(image, account_id=account, arn=image_arn(region, account, "web"))
        assert store.add(image, version, build, None)
        found[account, region] = image
    for (account, region), image in found.items():
        assert store.find_named(account, "web", region) == image
    assert store.find_named(ACCOUNT, "other", "us-east-1") is None
    assert store.find_named("999999999999", "web", "eu-west-9") is None


def test_a_taken_name_stores_nothing_at_all(database: Database) -> None:
    store, tokens = ImageStore(database), ClientTokenStore(database)
    store.add(*new_image(), None)
    image, version, build = new_image()
    assert not store.add(image, version, build, ClientToken(ACCOUNT, "Create", "token", "digest", image.id))
    assert store.find_by_id(image.id) is None
    assert store.list_versions(image.id) == []
    assert tokens.find(ACCOUNT, "Create", "token") is None


def test_a_used_token_stores_nothing_at_all(database: Database) -> None:
    store = ImageStore(database)
    token = ClientToken(ACCOUNT, "Create", "token", "digest", "first")
    assert store.add(*new_image("one"), token)
    assert not store.add(*new_image("two"), token)
    assert store.find("arn:two") is None
    assert ClientTokenStore(database).find(ACCOUNT, "Create", "token") == token
    assert ClientTokenStore(database).find(ACCOUNT, "Other", "token") is None


def test_a_build_moves_only_along_its_arrows(database: Database) -> None:
    store = ImageStore(database)
    image, version, build = new_image()
    store.add(image, version, build, None)
    store.finish_build(build, NOW, sizes=SnapshotSizes(1, 1, 1))
    assert store.list_builds(image.id, "1.0") == [build]
    assert store.find(image.arn) == image
    for _ in range(2):  # a restart begins it again
        store.begin_build(build, NOW)
    store.finish_build(build, NOW, sizes=SnapshotSizes(1, 5_000_000_000, 2))
    store.finish_build(build, NOW, reason="late")
    (stored,) = store.list_builds(image.id, "1.0")
    assert (stored.state, stored.state_reason) == (BuildState.SUCCESSFUL, None)
    assert stored.sizes == SnapshotSizes(1, 5_000_000_000, 2)


@pytest.mark.parametrize(
    ("reason", "first", "later", "status"),
    [
        (None, ImageState.CREATED, ImageState.UPDATED, VersionStatus.ACTIVE),
        ("S3_NO_SUCH_KEY", ImageState.CREATE_FAILED, ImageState.UPDATE_FAILED, VersionStatus.INACTIVE),
    ],
)
def test_a_build_settles_its_version_and_its_image_with_it(
    database: Database, reason: str | None, first: ImageState, later: ImageState, status: VersionStatus
) -> None:
    store = ImageStore(database)
    image, version, build = new_image()
    store.add(image, version, build, None)
    second = replace(version, version="2.0"), replace(build, id=str(uuid.uuid4()), version="2.0")
    assert not store.add_version(*second, None)  # the first is not settled
    for number, (one, state) in enumerate([(build, first), (second[1], later)], start=1):
        store.begin_build(one, NOW)
        store.finish_build(one, NOW, reason=reason)
        settled, found = store.find(image.arn), store.find_version(image.id, one.version)
        assert settled is not None and found is not None  # noqa: PT018
        assert (settled.state, found.status) == (state, status)
        latest = settled.latest_active_version if reason is None else settled.latest_failed_version
        assert latest == f"{number}.0"
        if number == 1:
            assert store.add_version(*second, None)


@pytest.mark.parametrize("removed", [True, False])
def test_a_version_is_deleted_whole_or_stays_visible(database: Database, removed: bool) -> None:
    store = ImageStore(database)
    image, version, build = new_image()
    store.add(image, version, build, None)
    assert not store.begin_to_delete_version(image.id, "1.0", NOW)
    store.begin_build(build, NOW)
    store.finish_build(build, NOW)
    assert store.begin_to_delete_version(image.id, "1.0", NOW)
    deleting = store.find(image.arn)
    assert deleting is not None
    assert (deleting.state, deleting.latest_active_version) == (ImageState.UPDATING, None)
    store.finish_deleting_version(image.id, "1.0", NOW, removed=removed)
    left = [found.state for found in store.list_versions(image.id)]
    assert left == ([] if removed else [VersionState.DELETE_FAILED])
    assert len(store.list_builds(image.id, "1.0")) == len(left)


def test_an_image_under_construction_cannot_be_deleted(database: Database) -> None:
    store = ImageStore(database)
    image, version, build = new_image()
    store.add(image, version, build, None)
    assert not store.change_state(image.id, ImageState.DELETING, NOW)
    assert store.change_state(image.id, ImageState.CREATED, NOW + timedelta(seconds=1))
    assert store.change_state(image.id, ImageState.DELETING, NOW)
    store.remove(image.id)
    assert store.find(image.arn) is None
    assert store.list_builds(image.id, "1.0") == []


def test_pages_of_images_go_from_new_to_old(database: Database) -> None:
    store = ImageStore(database)
    for age in range(5):
        store.add(*new_image(f"image{age}", age_s=age // 2), None)  # some at the same moment
    seen: list[str] = []
    after = None
    while page := store.list_page(ACCOUNT, 2, after):
        seen += [image.name for image in page]
        after = (page[-1].created_at, page[-1].id)
    assert sorted(seen) == [f"image{age}" for age in range(5)]
    assert seen[-1] == "image4"
    assert store.list_page("111111111111", 10, None) == []


@pytest.mark.parametrize("source", MicrovmState)
@pytest.mark.parametrize("target", MicrovmState)
def test_a_microvm_moves_only_along_its_arrows(database: Database, source: MicrovmState, target: MicrovmState) -> None:
    store = MicrovmStore(database)
    microvm = new_microvm(state=source)
    store.add([microvm], None)
    allowed = target in MICROVM_TRANSITIONS[source]
    assert store.change_state(microvm.id, target, reason="why") is allowed
    found = store.find(microvm.id)
    assert found is not None
    assert (found.state, found.state_reason) == ((target, "why") if allowed else (source, None))


def test_a_resume_counts_as_a_new_incarnation(database: Database) -> None:
    store = MicrovmStore(database)
    microvm = new_microvm(state=MicrovmState.SUSPENDED)
    store.add([microvm], None)
    store.settle(microvm.id, MicrovmState.RUNNING, new_incarnation=True)
    found = store.find(microvm.id)
    assert found is not None
    assert found.incarnation == 2


def test_lists_and_counts_of_microvms(database: Database) -> None:
    store = MicrovmStore(database)
    microvms = [new_microvm(age_s=age) for age in range(4)]
    for microvm in microvms:
        store.add([microvm], None)
    ended = new_microvm(
        state=MicrovmState.TERMINATED, terminated_at=NOW, image_arn="arn:other", image_id="other", age_s=9
    )
    store.add([ended], None)
    for asked, expected in (
        ((None,), [*microvms, ended]),
        (((microvms[1].started_at, microvms[1].id),), [*microvms[2:], ended]),
        ((None, "other"), [ended]),
        ((None, "image", "2.0"), []),
    ):
        assert store.list_page(ACCOUNT, 10, *asked) == [
            (item.id, item.image_arn, item.image_version, item.state, item.started_at, None) for item in expected
        ]
    assert (store.count_live("image"), store.count_live("other")) == (4, 0)
    assert len(store.list_live()) == 4


def test_only_what_ended_long_ago_is_forgotten(database: Database) -> None:
    store = MicrovmStore(database)
    old, fresh, live = (
        new_microvm(state=MicrovmState.TERMINATED, terminated_at=NOW - timedelta(days=2)),
        new_microvm(state=MicrovmState.TERMINATED, terminated_at=NOW),
        new_microvm(),
    )
    for microvm in (old, fresh, live):
        store.add([microvm], None)
    assert store.forget_terminated(NOW - timedelta(days=1)) == 1
    assert store.find(old.id) is None
    assert store.find(fresh.id) is not None
    assert store.find(live.id) is not None


def test_moments_come_back_in_utc(database: Database) -> None:
    store = MicrovmStore(database)
    microvm = new_microvm()
    store.add([microvm], None)
    found = store.find(microvm.id)
    assert found is not None
    assert found.started_at == NOW
    assert found.started_at.tzinfo is UTC


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/again.db"
    microvm = new_microvm()
    first = Database(url, metadata)
    MicrovmStore(first).add([microvm], None)
    first.close()
    second = Database(url, metadata)
    assert MicrovmStore(second).find(microvm.id) == microvm
    second.close()


# --- logs


def test_events_keep_their_order_and_can_be_narrowed(logs: LogStore) -> None:
    logs.append(LogGroup(ACCOUNT, "g"), "one", [(10, "first"), (10, "second 100%")])
    logs.append(LogGroup(ACCOUNT, "g"), "two", [(20, "third_x")])
    logs.append(LogGroup(ACCOUNT, "other"), "one", [(5, "foreign")])

    def texts(**narrow: object) -> list[str]:
        given = {"streams": None, "after_id": 0, "limit": 100, **narrow}
        return [event.message for event in logs.page(LogGroup(ACCOUNT, "g"), **given)[0]]  # type: ignore[arg-type]

    assert texts() == ["first", "second 100%", "third_x"]
    assert texts(streams=["two"]) == ["third_x"]
    assert texts(limit=1) == ["first"]
    assert texts(start_ms=20) == ["third_x"]
    assert texts(end_ms=20) == ["first", "second 100%"]
    assert texts(limit=2, newest=True) == ["second 100%", "third_x"]
    last = logs.events(LogGroup(ACCOUNT, "g"), None, 0, 2)[-1].id
    assert texts(after_id=last) == ["third_x"]
    assert texts(before_id=last) == ["first"]


def test_groups_and_streams_are_listed_by_prefix(logs: LogStore) -> None:
    logs.append(LogGroup(ACCOUNT, "/aws/a_b"), "s1", [(3, "x"), (7, "y")])
    logs.append(LogGroup(ACCOUNT, "/aws/axb"), "s2", [(1, "x")])
    assert logs.groups(ACCOUNT, "/aws/a_") == [GroupSummary("/aws/a_b", 3, None)]
    assert [group.name for group in logs.groups(ACCOUNT, "")] == ["/aws/a_b", "/aws/axb"]
    (stream,) = logs.streams(LogGroup(ACCOUNT, "/aws/a_b"), "s")
    assert (stream.name, stream.first, stream.last) == ("s1", 3, 7)


def test_an_event_makes_its_group_which_stays_when_the_events_are_gone(logs: LogStore) -> None:
    group, later = LogGroup(ACCOUNT, "g"), LogGroup(ACCOUNT, "later")
    logs.append(group, "s", [(7, "x"), (3, "y")])
    logs.append(group, "s", [(1, "z")])
    logs.append(later, "s", [])
    assert logs.groups(ACCOUNT, "") == [GroupSummary("g", 3, None)]
    assert logs.forget_old(100 * 24 * 3600 * 1000, 1) == 3
    assert logs.groups(ACCOUNT, "") == [GroupSummary("g", 3, None)]
    assert logs.has_group(group)
    logs.remove(group)
    assert not logs.has_group(group)


def test_groups_count_the_bytes_of_their_texts_and_26_for_each_event(logs: LogStore) -> None:
    logs.append(LogGroup(ACCOUNT, "g"), "s", [(1, "four"), (2, "zw\u00f6lf"), (3, "")])
    logs.append(LogGroup(ACCOUNT, "not asked"), "s", [(1, "x")])
    logs.append(LogGroup("111111111111", "g"), "s", [(1, "theirs")])
    assert logs.group_bytes(ACCOUNT, ["g", "empty"]) == {"g": 4 + 6 + 3 * 26}
    assert logs.group_bytes(ACCOUNT, []) == {}


def test_a_stream_is_trimmed_to_its_newest_events(logs: LogStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emberbox.store.logs.STREAM_EVENTS_MAX", 3)
    logs.append(LogGroup(ACCOUNT, "g"), "s", [(n, str(n)) for n in range(5)])
    logs.append(LogGroup(ACCOUNT, "g"), "other", [(0, "kept")])
    logs.trim(LogGroup(ACCOUNT, "g"), "s")
    logs.trim(LogGroup(ACCOUNT, "g"), "empty")
    assert [event.message for event in logs.events(LogGroup(ACCOUNT, "g"), None, 0, 100)] == ["2", "3", "4", "kept"]


def test_a_log_group_belongs_to_one_account(logs: LogStore) -> None:
    other = "111111111111"
    logs.append(LogGroup(ACCOUNT, "g"), "s", [(1, "mine")])
    logs.append(LogGroup(other, "g"), "s", [(2, "theirs")])
    assert [event.message for event in logs.events(LogGroup(ACCOUNT, "g"), None, 0, 10)] == ["mine"]
    assert logs.groups(other, "") == [GroupSummary("g", 2, None)]
    assert [stream.last for stream in logs.streams(LogGroup(ACCOUNT, "g"), "")] == [1]


def test_the_moment_of_a_suspend_is_kept_until_the_next(database: Database) -> None:
    microvms = MicrovmStore(database)
    microvm = new_microvm(state=MicrovmState.SUSPENDING)
    microvms.add([microvm], None)
    since = Instant.now()
    assert microvms.settle(microvm.id, MicrovmState.SUSPENDED, suspended=since)
    assert microvms.change_state(microvm.id, MicrovmState.RUNNING)
    found = microvms.find(microvm.id)
    assert found is not None
    assert (found.started, found.suspended) == (microvm.started, since)


def test_a_database_with_other_tables_is_refused_before_it_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    old = Database(url, metadata)
    with old.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE microvms DROP COLUMN suspended")
    old.close()
    with pytest.raises(HostError, match="its table microvms lacks suspended; start with a new EMBERBOX_HOME"):
        Database(url, metadata)


def test_a_database_of_before_a_column_gets_it_with_its_default(tmp_path: Path) -> None:
    """A server that is brought up to date keeps its rows."""
    url = f"sqlite:///{tmp_path}/rows.db"
    database = Database(url, metadata)
    microvm = new_microvm()
    MicrovmStore(database).add([microvm], None)
    database.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "rows.db")) as raw, raw:
        for column in ("own_base", "host", "generation"):
            raw.execute(f"ALTER TABLE microvms DROP COLUMN {column}")
    database = Database(url, metadata)
    assert MicrovmStore(database).find(microvm.id) == microvm
    database.close()
