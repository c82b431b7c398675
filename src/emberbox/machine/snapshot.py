"""Snapshots as directories: an image version's, and a suspended microVM's on top of it.

    images/<image id>/<version>/        microvms/<microVM id>/
      root.erofs   root file system       disk             its writable disk
      disk         disk at the snapshot   devices.saved    device state at the suspend
      memory       memory                 memory.layer     the pages it changed, a sparse file
      devices      device state           suspended.json   written last: names the pages that count
      snapshot.json  written last

A directory without its last file is half-made and is removed. Everything is on stable storage before that file is.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emberbox.host import disk
from emberbox.model.errors import HostError
from emberbox.vmm.base import MachineShape

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ImageSnapshot:
    """The snapshot of an image version; `directory` holds its files."""

    directory: Path
    shape: MachineShape

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
            "memorySnapshotSizeInBytes": disk.stored_bytes(self.memory),
            "codeInstallSizeInBytes": self.root.stat().st_size,
            "diskSnapshotSizeInBytes": disk.stored_bytes(self.disk),
        }

    def publish(self) -> None:
        """Make the snapshot complete: nobody may write it any more, and it survives a power cut."""
        for path in (self.root, self.disk, self.memory, self.devices):
            if os.geteuid() == 0:
                os.chown(path, 0, 0)
            path.chmod(0o400)
            disk.sync(path)
        _write_last(self.directory / "snapshot.json", {"format": FORMAT, "shape": asdict(self.shape)})


def load_image_snapshot(directory: Path) -> ImageSnapshot:
    """Return a published snapshot.

    Raises:
        HostError: it is missing, half-made, or of a format that this release does not know.
    """
    content = _read(directory / "snapshot.json")
    return ImageSnapshot(directory, MachineShape(**content["shape"]))


@dataclass(frozen=True, slots=True)
class SuspendedState:
    """What a suspended microVM adds to its image's snapshot; `runs` are the pages of its memory layer."""

    directory: Path
    runs: tuple[tuple[int, int], ...]

    @property
    def devices(self) -> Path:
        """The devices as they were."""
        return self.directory / "devices.saved"

    @property
    def memory_layer(self) -> Path:
        """The changed pages, each at its own offset."""
        return self.directory / "memory.layer"

    def publish(self) -> None:
        """Make the state complete, and sure to survive a power cut."""
        for path in (self.devices, self.memory_layer, self.directory / "disk"):
            disk.sync(path)
        _write_last(self.directory / "suspended.json", {"format": FORMAT, "runs": self.runs})


def load_suspended(directory: Path) -> SuspendedState:
    """Return the state of a suspended microVM.

    Raises:
        HostError: it is missing, half-made, or of a format that this release does not know.
    """
    content = _read(directory / "suspended.json")
    return SuspendedState(directory, tuple((first, count) for first, count in content["runs"]))


def forget_suspended(directory: Path) -> None:
    """Say that the saved state is not the truth any more: the microVM runs."""
    (directory / "suspended.json").unlink(missing_ok=True)


def _write_last(path: Path, content: dict[str, object]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(content))
    disk.sync(scratch)
    scratch.replace(path)
    disk.sync(path.parent)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"the snapshot in {path.parent.name} is missing or damaged: {error}") from error
    if content.get("format") != FORMAT:
        raise HostError(f"the snapshot in {path.parent.name} has the unknown format {content.get('format')}")
    found: dict[str, Any] = content
    return found
