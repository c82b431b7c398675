"""Sessions of the console, the links that open one, and the bound for logins that fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from emberbox.edges.console.attempts import FAILURES_MAX, WINDOW_S, Attempts
from emberbox.edges.console.sessions import IDLE_S, LIFE_S, LINK_S, SESSIONS_MAX, Sessions
from emberbox.model.iam.access import Credential

SECRET = "of-this-test-alone"
KEY = Credential("AKIAONE", SECRET, "111111111111")


class Keys:
    """Knows one key, as long as it is there."""

    def __init__(self) -> None:
        self.key: Credential | None = KEY

    def find_credential(self, access_key_id: str, token: str | None) -> Credential | None:
        found = self.key is not None and access_key_id == self.key.access_key_id and token == self.key.session_token
        return self.key if found else None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(keys: Keys, clock: Clock) -> Sessions:
    return Sessions(keys, clock)


@pytest.mark.parametrize(
    ("key_id", "secret", "proves"),
    [("AKIAONE", SECRET, True), ("AKIAONE", "wrong", False), ("AKIATWO", SECRET, False), ("AKIATWO", "", False)],
)
def test_a_key_and_its_secret_prove_who_it_is(sessions: Sessions, key_id: str, secret: str, proves: bool) -> None:
    assert (sessions.check(key_id, secret, None) is KEY) == proves


def test_an_id_is_random_and_only_its_hash_is_kept(sessions: Sessions) -> None:
    (first, _), (second, _) = sessions.open(KEY), sessions.open(KEY)
    assert first != second
    assert len(first) >= 40
    kept = repr(vars(sessions))
    assert first not in kept
    assert KEY.secret_access_key not in kept


def test_a_session_ends_when_nobody_uses_it(sessions: Sessions, clock: Clock) -> None:
    session_id, session = sessions.open(KEY)
    clock.now += IDLE_S - 1
    assert sessions.find(session_id) is session
    clock.now += IDLE_S - 1
    assert sessions.credential(session) is KEY  # a look does not use it
    clock.now += 2
    assert sessions.credential(session) is None
    assert sessions.find(session_id) is None


def test_a_session_ends_however_much_it_is_used(sessions: Sessions, clock: Clock) -> None:
    session_id, _ = sessions.open(KEY)
    end = clock.now + LIFE_S
    while clock.now + IDLE_S / 2 < end:
        clock.now += IDLE_S / 2
        assert sessions.find(session_id)
    clock.now = end + 1
    assert sessions.find(session_id) is None


def test_a_session_ends_with_its_key(sessions: Sessions, keys: Keys) -> None:
    session_id, session = sessions.open(KEY)
    keys.key = None
    assert sessions.credential(session) is None
    assert sessions.find(session_id) is None
    keys.key = KEY
    assert sessions.find(session_id) is None  # it does not come back


def test_a_session_does_not_pass_to_a_key_made_anew(sessions: Sessions, keys: Keys) -> None:
    _, session = sessions.open(KEY)
    keys.key = Credential("AKIAONE", "another", "111111111111")
    assert sessions.credential(session) is None


def test_a_session_of_temporary_credentials_ends_with_them(sessions: Sessions, keys: Keys) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=60)
    keys.key = Credential("ASIAONE", SECRET, "111111111111", session_token="token", expires_at=ends)
    assert sessions.check("ASIAONE", SECRET, None) is None
    found = sessions.check("ASIAONE", SECRET, "token")
    assert found is not None
    _, session = sessions.open(found)
    assert sessions.credential(session) is found
    past = datetime.now(UTC) - timedelta(seconds=1)
    keys.key = Credential("ASIAONE", SECRET, "111111111111", session_token="token", expires_at=past)
    assert sessions.credential(session) is None


def test_a_session_can_be_closed(sessions: Sessions) -> None:
    session_id, session = sessions.open(KEY)
    sessions.close(session_id)
    assert sessions.find(session_id) is None
    assert sessions.credential(session) is None
    sessions.close("nothing")


def test_sessions_have_a_number(sessions: Sessions, clock: Clock) -> None:
    opened = []
    for _ in range(SESSIONS_MAX + 1):
        clock.now += 1
        opened.append(sessions.open(KEY)[0])
    assert sessions.find(opened[0]) is None
    assert sessions.find(opened[1])
    assert sessions.find(opened[-1])


def test_a_link_opens_once(sessions: Sessions) -> None:
    code = sessions.make_link(KEY)
    assert sessions.redeem("another") is None
    assert sessions.redeem(code) is KEY
    assert sessions.redeem(code) is None


def test_a_link_opens_for_a_short_time(sessions: Sessions, clock: Clock) -> None:
    code = sessions.make_link(KEY)
    clock.now += LINK_S + 1
    assert sessions.redeem(code) is None


def test_a_link_counts_for_nothing_without_its_key(sessions: Sessions, keys: Keys) -> None:
    code = sessions.make_link(KEY)
    keys.key = None
    assert sessions.redeem(code) is None


def test_failures_are_counted_by_each_name(clock: Clock) -> None:
    attempts = Attempts(clock)
    for _ in range(FAILURES_MAX):
        assert attempts.wait_s("source a", "key k") == 0
        attempts.note_failure("source a", "key k")
    assert 0 < attempts.wait_s("source a", "key other") <= WINDOW_S
    assert 0 < attempts.wait_s("source b", "key k") <= WINDOW_S
    assert attempts.wait_s("source b", "key other") == 0
    clock.now += WINDOW_S + 1
    assert attempts.wait_s("source a", "key k") == 0


def test_failures_of_many_names_take_no_more_than_so_much(clock: Clock) -> None:
    attempts = Attempts(clock)
    for number in range(10_000):
        attempts.note_failure(f"key {number}")
    assert len(attempts._failures) <= 4096
