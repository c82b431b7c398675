"""The tokens that open a microVM's endpoint.

A token is a compact JWE (RFC 7516) with direct encryption, as the AWS service hands out:

    BASE64URL({"kid": ..., "alg": "dir", "enc": "A256GCM"}) . (nothing) . iv . claims . tag

The claims are encrypted and belong to us: the microVM, its ports, the kind of ingress, the expiry. There is
no list of tokens and no revocation: whoever holds the key can judge a token without asking a database.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import secrets
import stat
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from emberbox.model.errors import EmberboxError, HostError, ValidationError

Kind = Literal["application", "shell"]

FIRST_PORT: Final = 1
LAST_PORT: Final = 65535
_ALGORITHMS: Final = ["dir", "A256GCM"]
# header . empty key . 96-bit iv . claims . 128-bit tag (RFC 7518, section 5.3)
_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]{20,400})\.\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]{2,6000}\.[A-Za-z0-9_-]{22}")
_KEY_BYTES: Final = 32
_TOKEN_LIFE: Final = timedelta(minutes=60)  # the longest
_SLACK: Final = timedelta(minutes=5)  # for a clock that is set
_OPENED_TOKENS: Final = 4096


class InvalidToken(EmberboxError):  # noqa: N818  # the name that callers of `open` read best
    """A token that opens nothing. Its text is for our log; a client is never told why."""


@dataclass(frozen=True, slots=True)
class PortGrant:
    """The guest ports that a token opens.

    Args:
        ranges: pairs of first and last port, both included.
    """

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> PortGrant:
        """Build a grant from what a caller asked for.

        Args:
            ranges: pairs of first and last port, both included.

        Raises:
            ValidationError: there is none, or a port is out of range.
        """
        checked = tuple(sorted({_check_range(first, last) for first, last in ranges}))
        if not checked:
            raise ValidationError("allowedPorts must have at least 1 member")
        return cls(checked)

    def allows(self, port: int) -> bool:
        """Say whether `port` is in the grant."""
        return any(first <= port <= last for first, last in self.ranges)


def _check_range(first: int, last: int) -> tuple[int, int]:
    if not FIRST_PORT <= first <= last <= LAST_PORT:
        raise ValidationError(
            f"Ports in allowedPorts must be from {FIRST_PORT} to {LAST_PORT}, and startPort at most endPort"
        )
    return first, last


@dataclass(frozen=True, slots=True)
class Grant:
    """What an opened token allows: one microVM, some ports, until `expires_at` (UTC)."""

    microvm_id: str
    ports: PortGrant
    expires_at: datetime
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Key:
    """`made_at` is when it began to encrypt; a key that was stored without a time is as old as can be."""

    kid: str
    made_at: datetime
    secret: OctKey = field(repr=False)


class TokenKeys:
    """The keys that encrypt tokens: the current one, and older ones that still open.

    The key file (JSON, mode 0600) is made at first use. One object per process; not for several threads.

    Args:
        path: the key file; its directory must exist.

    Raises:
        HostError: the file is readable by others, damaged, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[str, Grant] = {}
        try:
            self._keys = self._load_or_create()
        except OSError as error:
            raise HostError(f"the token keys {path} cannot be used: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"TokenKeys({str(self._path)!r}, {len(self._keys)} keys)"

    def rotate_when_older(self, age_s: float, now: datetime) -> None:
        """Make a new current key when the present one has been in use for so long.

        Raises:
            HostError: the key file cannot be written; the keys are then unchanged.
        """
        if (now - self._keys[0].made_at).total_seconds() >= age_s:
            self.rotate(now)

    def rotate(self, now: datetime) -> None:
        """Make a new current key. An older one goes when no token of it can be alive any more.

        Raises:
            HostError: the key file cannot be written; the keys are then unchanged.
        """
        keys = [_new_key(now), *self._keys]
        for number in range(2, len(keys)):
            if now - keys[number - 1].made_at > _TOKEN_LIFE + _SLACK:  # its successor has been in use for so long
                keys = keys[:number]
                break
        try:
            _write_private(self._path, _dump(keys), replace=True)
        except OSError as error:
            raise HostError(f"the token keys {self._path} cannot be written: {error.strerror}") from error
        self._keys = keys
        self._opened.clear()

    def mint(self, microvm_id: str, ports: PortGrant, expires_at: datetime, kind: Kind = "application") -> str:
        """Make a token.

        Args:
            microvm_id: the only microVM that it opens.
            ports: the guest ports that it opens.
            expires_at: when it stops opening, with a time zone; rounded down to a second.
            kind: ingress for the application, or for a shell.
        """
        key = self._keys[0]
        claims = {"vm": microvm_id, "ports": ports.ranges, "kind": kind, "exp": int(expires_at.timestamp())}
        header = {"kid": key.kid, "alg": "dir", "enc": "A256GCM"}
        plaintext = json.dumps(claims, separators=(",", ":"))
        return jwe.encrypt_compact(header, plaintext, key.secret, algorithms=_ALGORITHMS)

    def open(self, token: str, now: datetime) -> Grant:
        """Decrypt a token and check its expiry.

        Args:
            token: what the client sent.
            now: the time to judge by, with a time zone.

        Raises:
            InvalidToken: it is malformed, forged, of an unknown key, or expired.
        """
        grant = self._opened.get(token)
        if grant is None:
            grant = self._decrypt(token)
        if now >= grant.expires_at:
            self._opened.pop(token, None)
            raise InvalidToken("expired")
        if token not in self._opened:
            self._remember(token, grant)
        return grant

    def _remember(self, token: str, grant: Grant) -> None:
        """Keep an opened token, so that the next request with it costs no decryption."""
        if len(self._opened) >= _OPENED_TOKENS:
            del self._opened[next(iter(self._opened))]  # the oldest: dicts keep insertion order
        self._opened[token] = grant

    def _decrypt(self, token: str) -> Grant:
        shape = _SHAPE.fullmatch(token)
        if shape is None:
            raise InvalidToken("not a compact JWE of our form")
        key = self._find_key(shape[1])
        try:
            opened = jwe.decrypt_compact(token, key.secret, algorithms=_ALGORITHMS)
            return _grant_of(json.loads(opened.plaintext or b""))
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise InvalidToken("does not decrypt to claims of ours") from error

    def _find_key(self, encoded_header: str) -> _Key:
        """Judge the header before anything is decrypted: a header with one more member is not ours."""
        try:
            header = json.loads(_decode(encoded_header))
        except (ValueError, RecursionError) as error:
            raise InvalidToken("the header is not JSON") from error
        for key in self._keys:
            if header == {"kid": key.kid, "alg": "dir", "enc": "A256GCM"}:
                return key
        raise InvalidToken("the header names another algorithm or an unknown key")

    def _load_or_create(self) -> list[_Key]:
        if not self._path.exists():
            with contextlib.suppress(FileExistsError):  # another process was first: its keys count
                _write_private(self._path, _dump([_new_key(datetime.now(UTC))]), replace=False)
        if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
            raise HostError(f"the token keys {self._path} are open to other users; run: chmod 600 {self._path}")
        try:
            return _parse(self._path.read_text())
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"{self._path} is damaged; remove it (all tokens become invalid)") from error


def is_token_shaped(value: str) -> bool:
    """Say whether `value` has the form of a token, whatever it may open."""
    return _SHAPE.fullmatch(value) is not None


def _grant_of(claims: Any) -> Grant:  # Any: JSON that is checked here
    """Read decrypted claims; they are ours, yet an older Emberbox may have written them."""
    kind: Kind = {"application": "application", "shell": "shell"}[claims["kind"]]  # type: ignore[assignment]
    ranges = tuple((int(first), int(last)) for first, last in claims["ports"])
    return Grant(str(claims["vm"]), PortGrant(ranges), datetime.fromtimestamp(claims["exp"], UTC), kind)


def _new_key(now: datetime) -> _Key:
    return _Key(str(uuid.uuid4()), now, OctKey.import_key(secrets.token_bytes(_KEY_BYTES)))


def _dump(keys: Sequence[_Key]) -> str:
    rows = [
        {
            "kid": key.kid,
            "made_at": int(key.made_at.timestamp()),
            "secret": base64.urlsafe_b64encode(key.secret.raw_value).decode(),
        }
        for key in keys
    ]
    return json.dumps({"keys": rows}, indent=2) + "\n"


def _parse(text: str) -> list[_Key]:
    keys = []
    for row in json.loads(text)["keys"]:
        secret = base64.urlsafe_b64decode(row["secret"])
        if len(secret) != _KEY_BYTES:
            raise ValueError("a key has the wrong length")
        made_at = datetime.fromtimestamp(row.get("made_at", 0), UTC)
        keys.append(_Key(str(row["kid"]), made_at, OctKey.import_key(secret)))
    if not keys:
        raise ValueError("no keys")
    return keys


def _decode(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _write_private(path: Path, text: str, *, replace: bool) -> None:
    """Write a file of mode 0600 so that it appears whole or not at all.

    Raises:
        FileExistsError: `path` is there already and `replace` is false.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp's mode is 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
