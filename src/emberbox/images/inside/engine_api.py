"""The Engine API at the socket of the daemon, for what is small: to start `docker` would take longer than that."""

from __future__ import annotations

import http.client
import json
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT_S = 120.0


class ApiError(Exception):
    """The daemon refused; the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineApi:
    """Asks a daemon (Docker Engine API 1.45).

    Args:
        path: its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def inspect_image(self, name: str) -> dict[str, Any] | None:
        """Return what is known of an image; None where there is none of that name.

        Raises:
            ApiError: the daemon refuses.
        """
        try:
            found: dict[str, Any] = self._ask("GET", f"/images/{quote(name)}/json")
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return found

    def list_names(self, repository: str) -> list[str]:
        """Return the names of a repository's images, with their tags.

        Raises:
            ApiError: the daemon refuses.
        """
        found = self._ask("GET", "/images/json", filters=json.dumps({"reference": [repository]}))
        return [name for image in found for name in image.get("RepoTags") or ()]

    def tag_image(self, name: str, other: str) -> None:
        """Give an image another name.

        Raises:
            ApiError: there is no such image, or the name is none.
        """
        repository, _, tag = other.partition(":")
        self._ask("POST", f"/images/{quote(name)}/tag", repo=repository, tag=tag)

    def remove_image(self, name: str) -> None:
        """Remove a name and what has no other; it need not be there.

        Raises:
            ApiError: the daemon refuses.
        """
        try:
            self._ask("DELETE", f"/images/{quote(name)}", force="1")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def prune_builds(self, keep_bytes: int) -> None:
        """Remove of the layers and cache mounts of builds those that were used longest ago.

        Args:
            keep_bytes: as much may stay.

        Raises:
            ApiError: the daemon refuses.
        """
        self._ask("POST", "/build/prune", **{"keep-storage": str(keep_bytes)})

    def _ask(self, method: str, path: str, **query: str) -> Any:
        connection = _Connection(self._path)
        try:
            connection.request(method, f"{path}?{urlencode(query)}")
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, f"{method} {path}: {content.decode(errors='replace').strip()[-2000:]}")
        return json.loads(content) if content.strip() else None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
