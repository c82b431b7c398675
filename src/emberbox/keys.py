"""The credentials that clients use: made at the first start, kept as an AWS profile."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from emberbox.model.errors import HostError
from emberbox.model.iam.access import Credential, new_key_id, new_secret

FILE_NAME = "credentials"
PROFILE = "emberbox"


def ensure_credential(home: Path, account_id: str) -> Credential:
    """Return the credential of this home; make one at the first start, never a fixed one.

    Raises:
        HostError: the file is there but holds no key.
    """
    path = home / FILE_NAME
    if not path.exists():
        write_credential(path, new_key_id("AKIA"), new_secret())
    return read_credential(path, account_id)


def read_credential(path: Path, account_id: str) -> Credential:
    """Return the credential of an AWS credentials file.

    Raises:
        HostError: the file cannot be read, or holds no profile of ours.
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text())
        section = parser[PROFILE]
        return Credential(section["aws_access_key_id"], section["aws_secret_access_key"], account_id)
    except (OSError, KeyError, configparser.Error) as error:
        raise HostError(f"{path} holds no credentials; remove it to have new ones made") from error


def write_credential(path: Path, key_id: str, secret: str) -> None:
    """Write an AWS credentials file that only its owner can read; it appears complete or not at all."""
    scratch = path.with_suffix(".new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"[{PROFILE}]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
