"""What images are built from: zips of directories, Dockerfiles, and the image that is taken when none is named."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox_sdk.errors import ConfigurationError

DEFAULT_DOCKERFILE: Final = """\
FROM emberbox/debian:12
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends python3
WORKDIR /root
CMD ["sleep", "infinity"]
"""
DOCKERFILE: Final = "Dockerfile"
_MOMENT: Final = (2020, 1, 1, 0, 0, 0)  # the same bytes for the same files
_LEFT_OUT: Final = frozenset({".git", "__pycache__", ".venv", "node_modules"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A zip with a Dockerfile.

    Attributes:
        content: the bytes.
    """

    content: bytes

    def uri(self, bucket: str) -> str:
        """Return where it is once it is uploaded."""
        return f"s3://{bucket}/{self.key}"

    @property
    def digest(self) -> str:
        """What tells it from any other."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def key(self) -> str:
        """Its name in the bucket."""
        return f"{self.digest}.zip"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What is there already, in S3 or a registry.

    Attributes:
        at: its URI.
    """

    at: str

    def uri(self, _bucket: str) -> str:
        """Return where it is."""
        return self.at

    @property
    def digest(self) -> str:
        """What tells it from any other."""
        return hashlib.sha256(self.at.encode()).hexdigest()


def find(source: Path | None, dockerfile: str | None, uri: str | None) -> Artifact | Elsewhere:
    """Return what an image is to be built from.

    Raises:
        ConfigurationError: it is not one thing, or there is no Dockerfile.
    """
    if uri is None:
        return pack(source, dockerfile)
    if source is not None or dockerfile is not None:
        raise ConfigurationError(
            "`uri` is what an image is built from, without a directory or a Dockerfile", "take one"
        )
    return Elsewhere(uri)


def pack(source: Path | None, dockerfile: str | None) -> Artifact:
    """Return the artifact of a directory, of a Dockerfile's text, or of both: then the text is the Dockerfile.

    Raises:
        ConfigurationError: there is no Dockerfile, or no directory.
    """
    files: dict[str, tuple[bytes, int]] = {}
    if source is not None:
        if not source.is_dir():
            raise ConfigurationError(f"{source} is no directory", "give the one that has the Dockerfile")
        files = {name: (path.read_bytes(), _mode(path)) for name, path in _walk(source)}
    if dockerfile is not None:
        files[DOCKERFILE] = dockerfile.encode(), 0o644
    if DOCKERFILE not in files:
        raise ConfigurationError(f"there is no Dockerfile in {source}", "add one, or give dockerfile=")
    return Artifact(_zip(files))


def _walk(source: Path) -> Iterator[tuple[str, Path]]:
    for directory, directories, names in os.walk(source):
        directories[:] = sorted(set(directories) - _LEFT_OUT)
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file():
                yield str(path.relative_to(source)), path


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644


def _zip(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, (content, mode) in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def name_of(artifact: Artifact | Elsewhere, *settings: object) -> str:
    """Return the name of an image that nobody has named: the same for what is built in the same way.

    Args:
        artifact: what it is built from.
        settings: what else it is built with, as can be written in JSON.
    """
    asked = artifact.digest + json.dumps(settings, sort_keys=True)
    return f"sdk-{hashlib.sha256(asked.encode()).hexdigest()[:20]}"
