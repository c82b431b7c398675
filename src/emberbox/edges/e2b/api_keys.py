"""E2B's API keys: an access key of the server's in the form that E2B's SDKs take, `e2b_` and hexadecimal digits.

So they are made, listed, disabled and restricted by policies as access keys are, and nothing more is stored.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_PREFIX: Final = "e2b_"
_PARTS: Final = re.compile(r"([A-Z0-9]{4,128}):([!-~]{4,128})")


def write_api_key(access_key_id: str, secret: str) -> str:
    """Return the API key that is an access key."""
    return f"{_PREFIX}{f'{access_key_id}:{secret}'.encode().hex()}"


def read_api_key(text: str) -> tuple[str, str] | None:
    """Return the access key's id and its secret; None where the text is no API key of ours."""
    if not text.startswith(_PREFIX):
        return None
    try:
        found = _PARTS.fullmatch(binascii.unhexlify(text.removeprefix(_PREFIX)).decode("ascii"))
    except ValueError:
        return None
    return None if found is None else (found[1], found[2])
