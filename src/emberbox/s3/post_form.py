"""Uploads from a browser's form: POST with a signed policy ("Browser-Based Uploads Using POST").

The fields come first and are small; the file comes last and is written as it comes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from emberbox.model.iam.access import Credential
from emberbox.s3.errors import S3Error
from emberbox.s3.parse import parse_document, read_time
from emberbox.s3.signatures import (
    ALGORITHM,
    FindCredential,
    find_credential,
    read_scope,
    same,
    signing_key,
)
from emberbox.spec.models import load_service

FORM_TYPE: Final = "multipart/form-data"
_FIELD_BYTES_MAX: Final = 64 << 10
_FREE: Final = frozenset({"policy", "file", "x-amz-signature", "signature", "awsaccesskeyid"})
"""Fields that no condition has to be about."""


@dataclass(frozen=True, slots=True)
class Form:
    """What came before the file, and the file.

    Attributes:
        fields: by their names in lower case.
        file_name: as the browser calls it.
        data: yields the file.
    """

    fields: Mapping[str, str]
    file_name: str
    data: Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a signed policy lets its holder do."""

    credential: Credential
    least: int
    most: int | None


class _Events:
    """The parser's calls, as a list to be read."""

    def __init__(self, boundary: bytes) -> None:
        self.found: list[tuple[str, bytes]] = []
        names = ("part_begin", "part_end", "headers_finished", "end")
        pieces = ("part_data", "header_field", "header_value")
        calls: dict[str, Any] = {f"on_{name}": self._mark(name) for name in names}
        calls |= {f"on_{name}": self._piece(name) for name in pieces}
        calls["on_header_end"] = self._mark("header_end")
        self._parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]  # a TypedDict of callbacks

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        self.found = []
        try:
            self._parser.write(bytes(data))
        except FormParserError:
            raise S3Error("MalformedPOSTRequest") from None
        return self.found

    def _mark(self, name: str) -> Callable[[], None]:
        return lambda: self.found.append((name, b""))

    def _piece(self, name: str) -> Callable[[bytes, int, int], None]:
        return lambda data, start, end: self.found.append((name, data[start:end]))


def read_form(content_type: str, body: Iterator[bytes]) -> Form:
    """Read a form up to its file.

    Raises:
        S3Error: it is malformed, has no file, or its fields are too long.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise S3Error("MalformedPOSTRequest")
    events = _read_events(_Events(boundary), body)
    fields: dict[str, str] = {}
    size = 0
    while True:
        name, file_name = _read_part_head(events)
        if name == "file":
            return Form(fields, file_name, _file_data(events))
        value = b""
        for kind, data in events:
            if kind == "part_end":
                break
            value += data
            size += len(data)
            if size > _FIELD_BYTES_MAX:
                raise S3Error("MaxMessageLengthExceeded", MaxMessageLengthBytes=str(_FIELD_BYTES_MAX))
        fields[name] = value.decode("utf-8", "replace")


def _read_events(events: _Events, body: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    for data in body:
        yield from events.feed(data)


def _read_part_head(events: Iterator[tuple[str, bytes]]) -> tuple[str, str]:
    """Return a part's name in lower case, and its file's name."""
    field, value = b"", b""
    disposition = b""
    for kind, data in events:
        match kind:
            case "header_field":
                field += data
            case "header_value":
                value += data
            case "header_end":
                if field.lower() == b"content-disposition":
                    disposition = value
                field, value = b"", b""
            case "headers_finished":
                _, options = parse_options_header(disposition)
                name = options.get(b"name", b"").decode("utf-8", "replace").lower()
                return name, options.get(b"filename", b"").decode("utf-8", "replace")
            case "end":
                break
        if len(field) + len(value) > _FIELD_BYTES_MAX:
            break
    raise S3Error("InvalidArgument", "POST requires exactly one file upload per request.", ArgumentName="file")


def _file_data(events: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    is_whole = False
    for kind, data in events:
        if kind == "part_data" and not is_whole:
            yield data
        elif kind == "part_end":
            is_whole = True  # what follows the file is ignored
    if not is_whole:
        raise S3Error("IncompleteBody")


def check_policy(fields: Mapping[str, str], bucket: str, find: FindCredential, now: datetime) -> Allowed:
    """Find out who signed a form's policy, and hold the form against it.

    Args:
        fields: of the form; `key` with the file's name filled in.
        bucket: where it is posted to.
        find: finds a credential.
        now: the present, aware of its time zone.

    Raises:
        S3Error: it is not signed, it has expired, or a field is not as it says.
    """
    text = fields.get("policy")
    if text is None:
        raise S3Error("AccessDenied")
    credential = _check_signature(fields, text, find, now)
    try:
        policy = json.loads(base64.b64decode(text))
        expires, conditions = read_time(policy["expiration"]), list(policy["conditions"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: it is not the JSON of a policy.") from None
    if expires <= now:
        raise S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
    given = {**fields, "bucket": bucket}
    least, most = 0, None
    covered = set(_FREE)
    for condition in conditions:
        kind, name, *values = _read_condition(condition)
        if kind == "content-length-range":
            least, most = _read_bounds(name, values)
            continue
        covered.add(name)
        value, actual = str(values[0]), given.get(name, "")
        holds = actual.startswith(value) if kind == "starts-with" else actual == value
        if not holds:
            raise _not_as_said(f"Policy Condition failed: {json.dumps(condition)[:256]}")
    for name in fields:
        if name not in covered and not name.startswith("x-ignore-"):
            raise _not_as_said(f"Extra input fields: {name[:64]}")
    return Allowed(credential, least, most)


def _check_signature(fields: Mapping[str, str], text: str, find: FindCredential, now: datetime) -> Credential:
    token = fields.get("x-amz-security-token")
    if "x-amz-signature" in fields:
        if fields.get("x-amz-algorithm") != ALGORITHM:
            raise S3Error("InvalidArgument", f"X-Amz-Algorithm only supports {ALGORITHM}.")
        key_id, scope = read_scope(fields.get("x-amz-credential", ""), "InvalidArgument")
        credential = find_credential(find, key_id, token, now)
        key = signing_key(credential.secret_access_key, scope)
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        stated = fields["x-amz-signature"]
    else:
        if "awsaccesskeyid" not in fields or "signature" not in fields:
            raise S3Error("AccessDenied")
        credential = find_credential(find, fields["awsaccesskeyid"], token, now)
        digest = hmac.new(credential.secret_access_key.encode(), text.encode(), hashlib.sha1).digest()
        expected, stated = base64.b64encode(digest).decode(), fields["signature"]
    if not same(expected, stated):
        raise S3Error("SignatureDoesNotMatch")
    return credential


def _read_condition(condition: Any) -> list[Any]:
    """Return a condition as kind, name in lower case, and values."""
    if isinstance(condition, dict) and len(condition) == 1:
        [(name, value)] = condition.items()
        return ["eq", str(name).lower(), value]
    if isinstance(condition, list) and len(condition) == 3:
        kind, name, value = condition
        if str(kind).lower() == "content-length-range":
            return ["content-length-range", name, value]
        if str(kind).lower() in ("eq", "starts-with") and str(name).startswith("$"):
            return [str(kind).lower(), str(name)[1:].lower(), value]
    raise S3Error("InvalidPolicyDocument", f"Invalid Policy: Invalid Condition: {json.dumps(condition)[:256]}")


def _read_bounds(least: Any, values: list[Any]) -> tuple[int, int]:
    try:
        return int(least), int(values[0])
    except (TypeError, ValueError):
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: content-length-range has no two numbers.") from None


def _not_as_said(why: str) -> S3Error:
    return S3Error("AccessDenied", f"Invalid according to Policy: {why}")


def headers_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return a form's fields as the headers that PutObject would have."""
    headers = {name: value for name, value in fields.items() if name.startswith(("x-amz-", "content-")) or
               name in ("cache-control", "expires")}  # fmt: skip
    if "acl" in fields:
        headers["x-amz-acl"] = fields["acl"]
    if "tagging" in fields:
        parsed = parse_document(load_service("s3").shape_for("Tagging"), fields["tagging"].encode())
        headers["x-amz-tagging"] = urlencode([(tag["Key"], tag["Value"]) for tag in parsed["TagSet"]])
    return headers
