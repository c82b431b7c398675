"""The QEMU that emulates the machine: 10 or later.

That of Debian 12 is 7.2, which loses interrupts in guests of SVM and fails by itself after half an hour. Debian's
backports have 10.0, whose libraries are those that 7.2 has there too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from emberbox.host.debian_packages import ensure_packages
from emberbox.vmm.qemu.arguments import BINARY
from emberbox.vmm.qemu.probe import find_version

OLDEST = 10
SUITE = "bookworm-backports"
PACKAGES = ("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios")
_DATA = ("usr/share/qemu", "usr/share/seabios")
_MODULES = "usr/lib/x86_64-linux-gnu/qemu"
_ROMS_OF_THE_HOST = ("/usr/lib/ipxe/qemu", "/usr/share/qemu")


@dataclass(frozen=True, slots=True)
class Emulator:
    """How it is started.

    Args:
        command: the program, and where its data are.
        environment: all its variables.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]


def find_emulator(directory: Path, say: Callable[[str], None]) -> Emulator:
    """Return this machine's own QEMU where it is new enough, else Debian's backport.

    Args:
        directory: where that is unpacked, once.
        say: told that it is fetched.

    Raises:
        HostError: it cannot be fetched.
    """
    version = asyncio.run(find_version())
    if int(version.partition(".")[0]) >= OLDEST:
        return Emulator((BINARY,), os.environ)
    if not directory.exists():
        say(f"fetching QEMU of {SUITE} (this machine has {version}; kept in {directory})")
    root = asyncio.run(ensure_packages(directory, SUITE, PACKAGES))
    places = [str(root / each) for each in _DATA] + list(_ROMS_OF_THE_HOST)
    command = (str(root / "usr/bin" / BINARY), *(word for place in places for word in ("-L", place)))
    return Emulator(command, {**os.environ, "QEMU_MODULE_DIR": str(root / _MODULES)})
