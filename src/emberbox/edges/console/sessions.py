"""Who has logged in to the console: sessions, in memory, by the hash of a random id.

A session acts as the access key that it was opened with, and ends with it: the key is looked up at each request. The
secret is not kept; its digest is, so that a key that was deleted and made anew does not count for the old one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from emberbox.model.iam.access import Credential

IDLE_S: Final = 4 * 3600.0
LIFE_S: Final = 12 * 3600.0
SESSIONS_MAX: Final = 1024
"""Of all keys together; beyond, the one that was used longest ago ends."""

LINK_S: Final = 120.0
LINKS_MAX: Final = 64
_RANDOM_BYTES: Final = 32


class Credentials(Protocol):
    """Knows access keys."""

    def find_credential(self, access_key_id: str, token: str | None) -> Credential | None:
        """Return the credential of an access key; None when it counts for nothing."""
        ...


@dataclass(slots=True, eq=False)
class Session:
    """One login.

    Args:
        access_key_id: of the key that it acts as.
        token: the session token of temporary credentials; None where the key is a user's.
        secret_digest: of the key's secret.
        csrf: what a request that changes something must carry.
        opened_at: a moment of the clock.
        used_at: when a person last asked for something.
        is_closed: whether it was logged out.
    """

    access_key_id: str
    token: str | None
    secret_digest: bytes
    csrf: str
    opened_at: float
    used_at: float
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class _Link:
    access_key_id: str
    token: str | None
    expires_at: float


class Sessions:
    """Opens, finds and closes sessions, and makes the links that open one once.

    Args:
        credentials: knows the keys.
        clock: seconds that only rise.
    """

    def __init__(self, credentials: Credentials, clock: Callable[[], float] = time.monotonic) -> None:
        self._credentials = credentials
        self._clock = clock
        self._sessions: dict[bytes, Session] = {}
        self._links: dict[bytes, _Link] = {}

    def check(self, access_key_id: str, secret: str, token: str | None) -> Credential | None:
        """Return the credential that a key and its secret prove; None when they prove nothing."""
        credential = self._credentials.find_credential(access_key_id, token)
        known = "" if credential is None else credential.secret_access_key
        # Compared all the same where there is no such key: how long it takes tells nothing.
        same = hmac.compare_digest(_digest(known), _digest(secret))
        return credential if same and credential is not None and not _is_over(credential) else None

    def open(self, credential: Credential) -> tuple[str, Session]:
        """Begin a session; return the id that only its holder knows, and the session."""
        if len(self._sessions) >= SESSIONS_MAX:
            oldest = min(self._sessions, key=lambda key: self._sessions[key].used_at)
            self._sessions.pop(oldest).is_closed = True
        now, session_id = self._clock(), secrets.token_urlsafe(_RANDOM_BYTES)
        session = Session(
            access_key_id=credential.access_key_id,
            token=credential.session_token,
            secret_digest=_digest(credential.secret_access_key),
            csrf=secrets.token_urlsafe(_RANDOM_BYTES),
            opened_at=now,
            used_at=now,
        )
        self._sessions[_digest(session_id)] = session
        return session_id, session

    def find(self, session_id: str) -> Session | None:
        """Return the session of an id, in use from now on; None when there is none any more."""
        key = _digest(session_id)
        session = self._sessions.get(key)
        if session is None:
            return None
        if self.credential(session) is None:
            session.is_closed = True
            del self._sessions[key]
            return None
        session.used_at = self._clock()
        return session

    def credential(self, session: Session) -> Credential | None:
        """Return what a session acts with; None when it has ended, by time, by log-out or with its key."""
        now = self._clock()
        if session.is_closed or now - session.opened_at > LIFE_S or now - session.used_at > IDLE_S:
            return None
        credential = self._credentials.find_credential(session.access_key_id, session.token)
        if credential is None or _is_over(credential):
            return None
        same = hmac.compare_digest(_digest(credential.secret_access_key), session.secret_digest)
        return credential if same else None

    def note_use(self, session: Session) -> None:
        """A person has done something with it, such as typed in a terminal."""
        session.used_at = self._clock()

    def close(self, session_id: str) -> None:
        """End a session."""
        session = self._sessions.pop(_digest(session_id), None)
        if session is not None:
            session.is_closed = True

    def make_link(self, credential: Credential) -> str:
        """Return a code that opens one session, once, within `LINK_S` seconds."""
        now = self._clock()
        self._links = {code: link for code, link in self._links.items() if link.expires_at > now}
        if len(self._links) >= LINKS_MAX:
            del self._links[next(iter(self._links))]
        code = secrets.token_urlsafe(_RANDOM_BYTES)
        self._links[_digest(code)] = _Link(credential.access_key_id, credential.session_token, now + LINK_S)
        return code

    def redeem(self, code: str) -> Credential | None:
        """Return the credential that a code is for; None when it was used, is too old, or never was."""
        link = self._links.pop(_digest(code), None)
        if link is None or link.expires_at <= self._clock():
            return None
        return self._credentials.find_credential(link.access_key_id, link.token)


def _is_over(credential: Credential) -> bool:
    return credential.expires_at is not None and credential.expires_at <= datetime.now(UTC)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
