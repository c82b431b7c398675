"""Snapshots as directories: an image version's, and a suspended microVM's on top of it.

    images/<image id>/<version>/            microvms/<microVM id>/
      root.erofs     the root file system     suspended.json   written last
      snapshot.json  written last             resumed.json     what suspended.json was, while the microVM runs
                                              base/            what it starts from when that is no image version

Beside them are the files of the engine (`emberbox.vmm.base.Saved`): which there are, and what they mean, it alone
knows. What it has to know of them is stored with them and given back to it.

A snapshot that was taken of a microVM (checkpoint.py) shares files with the one below it as hard links, so each
directory is complete by itself and any other may be deleted. A file with several names is never written again.

A directory without its last file is half-made and is removed. Everything is on stable storage before that file is.
The last file has a digest of itself and says how the others were when it was written: of each its size and the time
of its last change, of the small ones a digest too. That is held against the files before every use; it costs some
microseconds, however large they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from emberbox.host import disk
from emberbox.model.clock import Instant
from emberbox.model.errors import HostError
from emberbox.model.sizes import SnapshotSizes
from emberbox.vmm.base import DISK, MachineShape, Saved
from emberbox.vmm.engine import Engine

FORMAT = 3
FORMATS = (2, FORMAT)
"""Those that are read; 2 does not say which engine a state is of."""

ROOT = "root.erofs"
_OF_IMAGES = {"format", "shape", "ports", "engine", "files"}
_OF_MICROVMS = {"format", "stopped", "engine", "files"}
"""What these files themselves have to say; anything else is the engine's."""

_DIGEST_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ImageSnapshot:
    """The snapshot of an image version: its root file system and a base of the engine's, in one directory.

    `ports` are those where something listened when it was taken, each with whether TLS was spoken there.
    """

    shape: MachineShape
    saved: Saved
    ports: tuple[tuple[int, bool], ...] = ()

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self.saved.directory

    @property
    def engine(self) -> Engine | None:
        """What saved it; None in snapshots of earlier releases."""
        return self.saved.engine

    @property
    def root(self) -> Path:
        """The root file system, shared by all microVMs of the version."""
        return self.directory / ROOT

    def sizes(self) -> SnapshotSizes:
        """Return how many bytes are stored."""
        return SnapshotSizes(
            memory=self._stored_bytes("memory"),
            code=self.root.stat().st_size,
            disk=self._stored_bytes(DISK),
        )

    def _stored_bytes(self, begins: str) -> int:
        return sum(disk.stored_bytes(self.saved.path(name)) for name in self.saved.names if name.startswith(begins))

    def publish(self) -> None:
        """Make the snapshot complete: nobody may write it any more, and it survives a power cut."""
        for path in self._files():
            if os.geteuid() == 0:
                os.chown(path, 0, 0)
            path.chmod(0o400)
            disk.sync(path)
        files = {path.name: _describe(path) for path in self._files()}
        content = {
            **self.saved.details,
            "shape": asdict(self.shape),
            "ports": self.ports,
            "engine": _engine_to_json(self.engine),
            "files": files,
        }
        _write_last(self.directory / "snapshot.json", content)

    def link_to(self, directory: Path) -> ImageSnapshot:
        """Give all files of a published snapshot a second name in a new directory, which then stands for itself.

        Raises:
            OSError: the directory exists, or the file system cannot do it.
        """
        directory.mkdir()
        for path in (*self._files(), self.directory / "snapshot.json"):
            os.link(path, directory / path.name)
        disk.sync(directory)
        return self.moved_to(directory)

    def move_to(self, directory: Path) -> ImageSnapshot:
        """Give a published snapshot its place, where it is found after a power cut too; return it there.

        Raises:
            OSError: the place is taken, or on another file system.
        """
        directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.rename(directory)
        disk.sync(directory.parent)
        disk.sync(directory.parent.parent)
        return self.moved_to(directory)

    def moved_to(self, directory: Path) -> ImageSnapshot:
        """Return the same snapshot where its files are now."""
        return replace(self, saved=replace(self.saved, directory=directory))

    def _files(self) -> tuple[Path, ...]:
        return (self.root, *map(self.saved.path, self.saved.names))


def load_image_snapshot(directory: Path) -> ImageSnapshot:
    """Return a published snapshot.

    Raises:
        HostError: it is missing, half-made, damaged, or of a format that this release does not know.
    """
    content = _read(directory / "snapshot.json")
    _check_files(directory, content["files"])
    ports = tuple((port, is_tls) for port, is_tls in content.get("ports", ()))
    return ImageSnapshot(MachineShape(**content["shape"]), _saved(directory, content, _OF_IMAGES), ports)


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """What a suspended microVM adds to the snapshot that it was started from.

    `stopped` is when its clocks stopped; None where that is not to be seen, as after a rollback.
    """

    saved: Saved
    stopped: Instant | None = None

    @property
    def directory(self) -> Path:
        """The microVM's."""
        return self.saved.directory

    @property
    def engine(self) -> Engine | None:
        """What saved it; None in states of earlier releases."""
        return self.saved.engine

    def publish(self) -> None:
        """Make the state complete, and sure to survive a power cut."""
        paths = [self.saved.path(name) for name in self.saved.names]
        for path in paths:
            disk.sync(path)
        stopped = None if self.stopped is None else self.stopped.to_json()
        files = {path.name: _describe(path) for path in paths}
        told = {"stopped": stopped, "engine": _engine_to_json(self.engine), "files": files}
        content = {**self.saved.details, **told}
        _write_last(self.directory / "suspended.json", content)


def is_suspended(directory: Path) -> bool:
    """Say whether a microVM's saved state is the truth: it has not run since."""
    return (directory / "suspended.json").exists()


def load_suspended(directory: Path) -> SuspendedState:
    """Return the state of a suspended microVM.

    Raises:
        HostError: it is missing, half-made, damaged, or of a format that this release does not know.
    """
    content = _read(directory / "suspended.json")
    _check_files(directory, content["files"])
    return _state(directory, content)


def load_resumed(directory: Path) -> SuspendedState | None:
    """Return the state that a running microVM was resumed from; None before its first suspend.

    Raises:
        HostError: it is damaged.
    """
    if not (directory / "resumed.json").exists():
        return None
    return _state(directory, _read(directory / "resumed.json"))


def _state(directory: Path, content: dict[str, Any]) -> SuspendedState:
    stopped = content.get("stopped")
    when = None if stopped is None else Instant.from_json(stopped)
    return SuspendedState(_saved(directory, content, _OF_MICROVMS), when)


def _saved(directory: Path, content: dict[str, Any], ours: set[str]) -> Saved:
    """Return the engine's part of what was stored."""
    names = tuple(name for name in content["files"] if name != ROOT)
    details = {name: value for name, value in content.items() if name not in ours}
    return Saved(directory, names, details, _engine_of(content))


def forget_suspended(directory: Path) -> None:
    """Say, so that it survives a power cut, that the saved state is not the truth any more: the microVM runs.

    What it adds to its snapshot still lies under what the microVM changes now, so it is remembered.
    """
    if is_suspended(directory):
        (directory / "suspended.json").replace(directory / "resumed.json")
        disk.sync(directory)


def take_back_resume(directory: Path) -> None:
    """Let the state count again that a microVM was resumed from, if its VMM is gone and has not written to its disk.

    Raises:
        OSError: the file system cannot do it.
    """
    path = directory / "resumed.json"
    if is_suspended(directory) or not path.exists():
        return
    with contextlib.suppress(HostError):  # then it has run, and is not what it was
        _check_files(directory, _read(path)["files"])
        path.replace(directory / "suspended.json")
        disk.sync(directory)


def _engine_to_json(engine: Engine | None) -> dict[str, Any] | None:
    return None if engine is None else engine.to_json()


def _engine_of(content: dict[str, Any]) -> Engine | None:
    engine = content.get("engine")
    return None if engine is None else Engine.from_json(engine)


def _describe(path: Path) -> dict[str, Any]:
    """Say how a file is that nobody changes any more."""
    status = path.stat()
    told: dict[str, Any] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if status.st_size <= _DIGEST_BYTES_MAX:
        told["blake2b"] = _digest(path.read_bytes())
    return told


def _check_files(directory: Path, files: dict[str, dict[str, Any]]) -> None:
    """Hold the files against what was said of them when they were saved.

    Raises:
        HostError: one is missing, or was changed: running it could give a guest with wrong memory.
    """
    for name, told in files.items():
        try:
            is_same = _describe(directory / name) == told
        except OSError as error:
            raise HostError(f"the snapshot in {directory.name} is damaged: {name}: {error.strerror}") from error
        if not is_same:
            raise HostError(
                f"the snapshot in {directory.name} is damaged: {name} was changed after it was saved; "
                "put back a copy of the directory that keeps the times of the files"
            )


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _write_last(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps({"format": FORMAT, **content})
    scratch = path.with_suffix(".new")
    scratch.write_text(f"{text}\n{_digest(text.encode())}\n")
    disk.sync(scratch)
    scratch.replace(path)
    disk.sync(path.parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        text, _, digest = path.read_text().partition("\n")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise HostError(f"the snapshot in {path.parent.name} is missing or damaged: {error}") from error
    if content.get("format") not in FORMATS:
        raise HostError(f"the snapshot in {path.parent.name} has the unknown format {content.get('format')}")
    if digest.strip() != _digest(text.encode()):
        raise HostError(f"the snapshot in {path.parent.name} is damaged: {path.name} is not as it was written")
    found: dict[str, Any] = content
    return found
