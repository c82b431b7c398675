"""The identity that builds read code artifacts with: it may get every object of the embedded S3, and nothing else.

Whose buckets a build may read is decided by its role; the server says so with each request
(`x-amz-expected-bucket-owner`).
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path
from typing import Final

from emberbox.model.iam.access import Credential
from emberbox.model.iam.policies import parse_policy

KEY_ID: Final = "EMBERBOXARTIFACTREADER"
_POLICY: Final = parse_policy(
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject*","Resource":"*"}]}'
)


def reader_credential(home: Path, account_id: str) -> Credential:
    """Return the identity; its secret follows from the key that secrets are encrypted with.

    Args:
        home: the state directory.
        account_id: the operator's account.

    Raises:
        OSError: that key is not there yet.
    """
    key = (home / "secrets" / "access.key").read_bytes()
    secret = hmac.new(key, b"emberbox artifact reader", sha256).hexdigest()
    return Credential(KEY_ID, secret, account_id, name="artifact-reader", policies=(_POLICY,))
