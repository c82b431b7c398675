"""What an image says about how to run it, and whom its files know.

It is read where the image was built, which may be inside a sandbox: this module needs the standard library alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberbox.model.container_labels import READY_LABEL
from emberbox.model.errors import BuildError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image says about how to run it (OCI image specification, "Image Configuration").

    `ready` is what its label says of when its application is ready; empty where it says nothing.
    """

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    directory: str
    user: str
    ports: tuple[int, ...]
    ready: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """A user in the image, found out from its /etc/passwd and /etc/group."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class RootFileSystem:
    """What else is known of a root file system once it is packed.

    Args:
        user: whom it runs as.
        environment: variables of its processes that the image does not set.
        notes: lines for the build's log.
    """

    user: User
    environment: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def parse_config(config: dict[str, Any]) -> ImageConfig:
    """Read the `config` of an OCI image.

    Raises:
        BuildError: there is neither ENTRYPOINT nor CMD.
    """
    arguments = tuple(config.get("Entrypoint") or ()) + tuple(config.get("Cmd") or ())
    if not arguments:
        raise BuildError("CONTAINER_BUILD_FAILED", "the Dockerfile has neither ENTRYPOINT nor CMD: nothing to run")
    environment = dict(entry.split("=", 1) for entry in config.get("Env") or () if "=" in entry)
    environment.setdefault("PATH", DEFAULT_PATH)
    ports = (re.fullmatch(r"(\d+)(?:/tcp)?", port) for port in config.get("ExposedPorts") or {})
    return ImageConfig(
        arguments,
        tuple(environment.items()),
        config.get("WorkingDir") or "/",
        config.get("User") or "",
        tuple(int(match[1]) for match in ports if match),
        (config.get("Labels") or {}).get(READY_LABEL) or "",
    )


_NOT_HEEDED = {"Healthcheck": "HEALTHCHECK", "StopSignal": "STOPSIGNAL", "Volumes": "VOLUME", "OnBuild": "ONBUILD"}


def find_unheeded(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what the `config` of an image says that a microVM does not heed, as lines for the build's log."""
    return tuple(f"NOTE: {name} has no effect on a microVM" for key, name in _NOT_HEEDED.items() if config.get(key))


def find_user(root: Path, text: str) -> User:
    """Find the user that `USER text` means (`user`, `uid`, `user:group`, `uid:gid`).

    Raises:
        BuildError: the image has no such user or group.
    """
    name, _, group = (text or "0").partition(":")
    entry = _find_entry(_read_table(root, "etc/passwd"), name)
    if entry is None and not name.isdecimal():
        raise BuildError("CONTAINER_BUILD_FAILED", f"USER {text}: the image's /etc/passwd has no user {name}")
    login = entry[0] if entry else ""
    uid, gid, home = (int(entry[2]), int(entry[3]), entry[5]) if entry else (int(name), 0, "/")
    groups = _read_table(root, "etc/group")
    if group:
        gid = _find_group(groups, group, text)
        return User(uid, gid, (), home or "/")
    more = tuple(int(row[2]) for row in groups if len(row) > 3 and login and login in row[3].split(","))
    return User(uid, gid, more, home or "/")


def _find_group(groups: list[list[str]], group: str, text: str) -> int:
    entry = _find_entry(groups, group)
    if entry:
        return int(entry[2])
    if group.isdecimal():
        return int(group)
    raise BuildError("CONTAINER_BUILD_FAILED", f"USER {text}: the image's /etc/group has no group {group}")


def _find_entry(table: list[list[str]], key: str) -> list[str] | None:
    index = 2 if key.isdecimal() else 0
    return next((row for row in table if row[index] == key), None)


def _read_table(root: Path, name: str) -> list[list[str]]:
    """Read a colon-separated table of the image; a link is not followed, it could lead out of the image."""
    path = root / name
    if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
        return []
    rows = [line.split(":") for line in path.read_text(errors="replace").splitlines()]
    return [row for row in rows if len(row) >= 4 and row[2].isdecimal()]
