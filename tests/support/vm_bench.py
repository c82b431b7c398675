"""What the benches of real engines have in common."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path

from emberbox.guest.protocol import Application
from emberbox.images.pipeline import DEFAULT_CAPABILITIES
from emberbox.machine.connections import GUEST_RESOLV_CONF
from emberbox.machine.survivors import find_survivor
from emberbox.model.sizes import SIZES
from emberbox.process.adoption import AdoptedProcess
from emberbox.vmm.base import MachineShape, Vm
from support.images import Image
from support.server import Server

SIZE = SIZES[512]
SHAPE = MachineShape(SIZE.vcpu_count, SIZE.mem_size_mib)
APPLICATION = Application(
    ("perl", "/probe.pl"), (("PATH", os.defpath),), "/", 0, 0, (), DEFAULT_CAPABILITIES,
    privileged=False, hostname="contract", resolv_conf=GUEST_RESOLV_CONF,
)  # fmt: skip


def find_root(server: Server, image: Image) -> Path:
    """Return the root file system of an image's first version."""
    with contextlib.closing(sqlite3.connect(server.home / "emberbox.db")) as rows:
        (found,) = rows.execute("select id from images where arn = ?", (image.arn,)).fetchone()
    (root,) = server.home.glob(f"images/{found}/1.0/root.erofs")
    return root


def find_noted(directory: Path) -> AdoptedProcess:
    """Return the process that was noted in a guest's directory."""
    survivor = find_survivor(directory)
    assert survivor is not None
    return survivor.process


def end_noted(_vm: Vm, directory: Path) -> None:
    """End it from outside."""
    os.kill(json.loads((directory / "vmm.json").read_text())["pid"], signal.SIGKILL)
