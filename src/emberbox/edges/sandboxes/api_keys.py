"""API keys of sandboxes' SDKs: an access key of the server's, in hexadecimal digits behind a prefix for each SDK.

So they are made, listed, disabled and restricted by policies as access keys are, and nothing more is stored.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

E2B: Final = "e2b_"
DAYTONA: Final = "dtn_"
_PARTS: Final = re.compile(r"([A-Z0-9]{4,128}):([!-~]{4,128})")


def write_api_key(prefix: str, access_key_id: str, secret: str) -> str:
    """Return the API key that is an access key."""
    return f"{prefix}{f'{access_key_id}:{secret}'.encode().hex()}"


def read_api_key(prefix: str, text: str) -> tuple[str, str] | None:
    """Return the access key's id and its secret; None where the text is no API key of ours with this prefix."""
    if not text.startswith(prefix):
        return None
    try:
        found = _PARTS.fullmatch(binascii.unhexlify(text.removeprefix(prefix)).decode("ascii"))
    except ValueError:
        return None
    return None if found is None else (found[1], found[2])
