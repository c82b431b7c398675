"""Credentials for registries, in the form of Docker's config.json ("docker login" writes it)."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emberbox.model.errors import HostError
from emberbox.model.image_references import DOCKER_HUB

_OF_DOCKER_HUB: Final = ("index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """A user's name and password at a registry."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of a header Authorization."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_login(path: Path, registry: str) -> Login | None:
    """Return what the operator's file has for a registry; None where it has nothing.

    Args:
        path: the file.
        registry: its host, with a port where it has one.

    Raises:
        HostError: the file cannot be read, or has it in a form that is not taken.
    """
    try:
        logins = json.loads(path.read_text())["auths"]
        found = next((entry for key, entry in logins.items() if _host(key) == registry), None)
        return None if found is None else _read_login(found)
    except OSError as error:
        raise HostError(f"{path} (EMBERBOX_REGISTRY_AUTH) cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise HostError(
            f"{path} (EMBERBOX_REGISTRY_AUTH) has no login for {registry} that can be used: it has to have `auths`, "
            "with `auth` or `username` and `password` for each registry; helpers and identity tokens are not taken"
        ) from error


def _host(key: str) -> str:
    """Return which registry a key means: old ones are URLs."""
    host = key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
    return DOCKER_HUB if host in _OF_DOCKER_HUB else host


def _read_login(entry: Any) -> Login:
    if entry.get("identitytoken") or entry.get("registrytoken"):
        raise ValueError("a token")
    if entry.get("auth"):
        user, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no password")
        return Login(user, password)
    return Login(str(entry["username"]), str(entry["password"]))
