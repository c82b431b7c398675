"""What a request to a sandbox names: which sandbox, which port, as whom."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from starlette.requests import HTTPConnection

from emberbox.model.errors import EmberboxError
from emberbox.model.sandbox_names import LAST_PORT, PORT_HEADER, SANDBOX_HEADER, Address, read_label

_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


def read_address(connection: HTTPConnection) -> Address | None:
    """Return which sandbox a request is for: by two headers, or by its host's first label; None where by neither."""
    sandbox_id, port = connection.headers.get(SANDBOX_HEADER), connection.headers.get(PORT_HEADER, "")
    if sandbox_id and _PORT.fullmatch(port) and int(port) <= LAST_PORT:
        return Address(sandbox_id, int(port))
    return read_label(connection.headers.get("host", "").partition(":")[0].lower().partition(".")[0])


class NobodyError(EmberboxError):
    """A request that names its user in no way that is known."""


def read_user(connection: HTTPConnection) -> str | None:
    """Return the user that a request's `Authorization: Basic` names; None where there is none.

    Raises:
        NobodyError: it is malformed.
    """
    scheme, _, text = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(text, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise NobodyError("the Authorization header is malformed") from None
    return user or None
