"""How Daytona's clients send their keys."""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection

from emberbox.edges.sandboxes import api_keys
from emberbox.edges.sandboxes.call import KeyForm

SOURCE: Final = "daytona"
"""Names the API in the audit trail."""


def _read(request: HTTPConnection) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


KEY_FORM: Final = KeyForm(api_keys.DAYTONA, _read, "emberbox daytona-keys create")
