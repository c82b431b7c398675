"""Programs of another architecture on this machine: the kernel is told to run them by QEMU's user mode (binfmt_misc).

Where the machine does that already, by Debian's package qemu-user-static or by an administrator, nothing is changed.
Else each server that needs it does, as root, for as long as it runs: QEMU is fetched as a package and unpacked under
the home, and the kernel keeps it open (flag F), so that programs in containers find it. It runs with the rights of
whoever starts the program (no flag C): what this adds is no right, only what can be started. It counts for the whole
machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import tempfile
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.host import scratch
from emberbox.host.architecture import Architecture
from emberbox.host.debian_packages import ensure_packages
from emberbox.model.errors import HostError

SUITE: Final = "bookworm"
PACKAGE: Final = "qemu-user-static"
_PLACE: Final = "binfmt"
_PREFIX: Final = "emberbox-"
"""Of the names of servers' rules."""

_FLAGS: Final = "PF"
"""P: the program's own name, argv[0], is passed on (QEMU 6.0, Linux 5.12). F: see above."""

_EXITS: Final = {
    # mov x0, #0; mov x8, #93 (exit); svc #0
    "aarch64": bytes.fromhex("000080d2a80b80d2010000d4"),
    # xor edi, edi; mov eax, 60 (exit); syscall
    "x86_64": bytes.fromhex("31ffb83c0000000f05"),
}
"""Programs that end at once, by machine, as code."""

_BASE: Final = 0x400000
_TRIAL_TIMEOUT_S: Final = 30


class ForeignPrograms:
    """Lets them run.

    Args:
        home: the server's.
        architecture: what they are compiled for.
    """

    def __init__(self, home: Path, architecture: Architecture) -> None:
        self._home = home
        self.architecture = architecture
        self._lock = asyncio.Lock()
        self._settled = False

    async def ensure(self) -> None:
        """Let them run from now on, until `close`.

        Raises:
            HostError: they cannot; the message says what to do.
        """
        async with self._lock:
            if (self._settled or os.geteuid() != 0) and await runs(self.architecture):
                return
            if os.geteuid() != 0:
                raise HostError(
                    f"programs for {self.architecture.machine} do not run here, and only root can change that: "
                    f"install Debian's packages {PACKAGE} and binfmt-support, or start the server as root"
                )
            await clear(self._home)
            try:
                await self._tell()
            except BaseException:
                await clear(self._home)
                raise
            self._settled = True

    async def _tell(self) -> None:
        """Tell the kernel, unless the machine itself has: what another server has told ends with that one."""
        place = _place(self._home)
        place.mkdir(parents=True, exist_ok=True)
        try:
            await process.run(["mount", "-t", "binfmt_misc", "none", place])
        except HostError as error:
            raise HostError(
                f"programs for {self.architecture.machine} do not run here, and the kernel cannot be told how: "
                f"{error}; load its module binfmt_misc"
            ) from error
        if await runs(self.architecture) and not list(place.glob(f"{_PREFIX}*")):
            await clear(self._home)
            return
        packages = await ensure_packages(self._home / "packages" / PACKAGE, SUITE, [PACKAGE])
        rule = describe(_name(self._home), self.architecture, packages / "usr/bin" / self.architecture.user_program)
        try:
            await asyncio.to_thread((place / "register").write_bytes, rule)
        except OSError as error:
            raise HostError(f"the kernel takes no rule of binfmt_misc: {error.strerror}") from error
        if not await runs(self.architecture):
            raise HostError(
                f"programs for {self.architecture.machine} do not run here, though QEMU is registered for them"
            )

    async def close(self) -> None:
        """Take it back."""
        async with self._lock:
            await clear(self._home)


def describe(name: str, architecture: Architecture, interpreter: Path) -> bytes:
    """Return what the kernel is told (Documentation/admin-guide/binfmt-misc.rst)."""
    parts = (architecture.elf_header, architecture.elf_mask)
    header, mask = ("".join(f"\\x{byte:02x}" for byte in part) for part in parts)
    return f":{name}:M::{header}:{mask}:{interpreter}:{_FLAGS}".encode()


async def clear(home: Path) -> None:
    """Take back what this server, or an earlier one of the same home, has told the kernel."""
    place = _place(home)
    if not place.is_dir():
        return
    rule = place / _name(home)
    if rule.exists():
        await asyncio.to_thread(rule.write_bytes, b"-1")
    await scratch.unmount(place.parent)
    place.rmdir()
    place.parent.rmdir()


async def runs(architecture: Architecture) -> bool:
    """Say whether a program for an architecture runs here, by starting one that ends at once."""
    with tempfile.NamedTemporaryFile(prefix="emberbox-", delete=False) as file:
        file.write(make_trial(architecture))
    program = Path(file.name)
    try:
        program.chmod(0o700)
        return (await process.run([program], check=False, timeout=_TRIAL_TIMEOUT_S)).returncode == 0
    except process.CommandError:  # the kernel does not know what it is
        return False
    finally:
        program.unlink()


def make_trial(architecture: Architecture) -> bytes:
    """Return a static program that ends with 0 (elf(5)): a header, one segment, and the code."""
    code = _EXITS[architecture.machine]
    start = 64 + 56
    header = struct.pack(
        "<IQQQIHHHHHH", 1, _BASE + start, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )  # version, entry, program headers, no sections
    size = start + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return architecture.elf_header + header + segment + code


def _place(home: Path) -> Path:
    return home / "runtime" / _PLACE / "registry"


def _name(home: Path) -> str:
    return _PREFIX + hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
