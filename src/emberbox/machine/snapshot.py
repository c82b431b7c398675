"""Snapshots as directories: an image version's, and a suspended microVM's on top of it.

    images/<image id>/<version>/        microvms/<microVM id>/
      root.erofs   root file system       disk             its writable disk
      disk         disk at the snapshot   devices.saved    device state at the suspend
      memory       memory                 memory.layer     the pages it changed, a sparse file
      memory.1 …   pages over it          suspended.json   written last: names the pages that count
      devices      device state           resumed.json     what suspended.json was, while the microVM runs
      snapshot.json  written last         base/            what it starts from when that is no image version

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
from emberbox.vmm.base import MachineShape, MemoryLayer
from emberbox.vmm.engine import Engine

FORMAT = 3
FORMATS = (2, FORMAT)
"""Those that are read; 2 does not say which engine a state is of."""

_DIGEST_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class ImageSnapshot:
    """The snapshot of an image version; `directory` holds its files, `layers` lie over its memory, lowest first.

    `ports` are those where something listened when it was taken, each with whether TLS was spoken there. `engine` is
    what saved it; None in snapshots of earlier releases.
    """

    directory: Path
    shape: MachineShape
    layers: tuple[MemoryLayer, ...] = ()
    ports: tuple[tuple[int, bool], ...] = ()
    engine: Engine | None = None

    @property
    def root(self) -> Path:
        """The root file system, shared by all microVMs of the version."""
        return self.directory / "root.erofs"

    @property
    def disk(self) -> Path:
        """The writable disk as it was."""
        return self.directory / "disk"

    @property
    def memory(self) -> Path:
        """The memory as it was."""
        return self.directory / "memory"

    @property
    def devices(self) -> Path:
        """The devices as they were."""
        return self.directory / "devices"

    def sizes(self) -> dict[str, int]:
        """Return the model's `snapshotBuild`: bytes stored for memory, code and disk."""
        return {
            "memorySnapshotSizeInBytes": sum(disk.stored_bytes(path) for path in self._memory_files()),
            "codeInstallSizeInBytes": self.root.stat().st_size,
            "diskSnapshotSizeInBytes": disk.stored_bytes(self.disk),
        }

    def publish(self) -> None:
        """Make the snapshot complete: nobody may write it any more, and it survives a power cut."""
        for path in self._files():
            if os.geteuid() == 0:
                os.chown(path, 0, 0)
            path.chmod(0o400)
            disk.sync(path)
        layers = [{"file": layer.path.name, "runs": layer.runs} for layer in self.layers]
        files = {path.name: _describe(path) for path in self._files()}
        content = {
            "shape": asdict(self.shape),
            "layers": layers,
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
        layers = tuple(MemoryLayer(directory / layer.path.name, layer.runs) for layer in self.layers)
        return replace(self, directory=directory, layers=layers)

    def _memory_files(self) -> tuple[Path, ...]:
        return (self.memory, *(layer.path for layer in self.layers))

    def _files(self) -> tuple[Path, ...]:
        return (self.root, self.disk, self.devices, *self._memory_files())


def load_image_snapshot(directory: Path) -> ImageSnapshot:
    """Return a published snapshot.

    Raises:
        HostError: it is missing, half-made, damaged, or of a format that this release does not know.
    """
    content = _read(directory / "snapshot.json")
    _check_files(directory, content["files"])
    layers = tuple(
        MemoryLayer(directory / layer["file"], tuple((first, count) for first, count in layer["runs"]))
        for layer in content.get("layers", ())
    )
    ports = tuple((port, is_tls) for port, is_tls in content.get("ports", ()))
    return ImageSnapshot(directory, MachineShape(**content["shape"]), layers, ports, _engine_of(content))


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """What a suspended microVM adds to its image's snapshot; `runs` are the pages of its memory layer.

    `stopped` is when its clocks stopped; None where that is not to be seen, as after a rollback. `engine` is what saved
    it; None in states of earlier releases.
    """

    directory: Path
    runs: tuple[tuple[int, int], ...]
    stopped: Instant | None = None
    engine: Engine | None = None

    @property
    def devices(self) -> Path:
        """The devices as they were."""
        return self.directory / "devices.saved"

    @property
    def memory_layer(self) -> Path:
        """The changed pages, each at its own offset."""
        return self.directory / "memory.layer"

    @property
    def layers(self) -> tuple[MemoryLayer, ...]:
        """What lies over the memory that the microVM started from."""
        return (MemoryLayer(self.memory_layer, self.runs),) if self.runs else ()

    def publish(self) -> None:
        """Make the state complete, and sure to survive a power cut."""
        paths = (self.devices, self.directory / "disk", *(layer.path for layer in self.layers))
        for path in paths:
            disk.sync(path)
        stopped = None if self.stopped is None else self.stopped.to_json()
        files = {path.name: _describe(path) for path in paths}
        content = {"runs": self.runs, "stopped": stopped, "engine": _engine_to_json(self.engine), "files": files}
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


def load_resumed(directory: Path) -> SuspendedState:
    """Return the state that a running microVM was resumed from; before its first suspend it has no pages.

    Raises:
        HostError: it is damaged.
    """
    if not (directory / "resumed.json").exists():
        return SuspendedState(directory, ())
    return _state(directory, _read(directory / "resumed.json"))


def _state(directory: Path, content: dict[str, Any]) -> SuspendedState:
    runs = tuple((first, count) for first, count in content["runs"])
    stopped = content.get("stopped")
    when = None if stopped is None else Instant.from_json(stopped)
    return SuspendedState(directory, runs, when, _engine_of(content))


def forget_suspended(directory: Path) -> None:
    """Say, so that it survives a power cut, that the saved state is not the truth any more: the microVM runs.

    Its pages still lie under those that the microVM changes, so their list is kept.
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
