"""QEMU that emulates AArch64 on an x86 machine, for versions that ask for ARM_64 where the operator allows the cost."""

from __future__ import annotations

import logging
import platform
import shutil
from pathlib import Path

from emberbox.host import native
from emberbox.host.architecture import ARM_64, X86_64
from emberbox.host.architecture import native as native_architecture
from emberbox.host.debian_packages import ensure_packages
from emberbox.host.foreign_programs import runs
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import HostError
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu.driver import QemuDriver
from emberbox.vmm.qemu.probe import find_version
from emberbox.vmm.request import EngineRequest

log = logging.getLogger(__name__)


async def make_driver(request: EngineRequest) -> QemuDriver:
    """Return it.

    Raises:
        HostError: it is not allowed, or QEMU for AArch64 cannot be had; the message says what to do.
    """
    if not request.emulates_arm64:
        raise HostError(
            "AArch64 is not emulated here: start the server with EMBERBOX_ARM64=emulate, which is slow and no security "
            "boundary (docs/arm.md)"
        )
    if native_architecture() != X86_64:
        raise HostError("AArch64 is emulated on x86 machines only: this one runs it itself (docs/arm.md)")
    program = await ensure_program(request.home)
    engine = Engine(ARM64_ENGINE.upper(), await find_version(str(program)), "tcg")
    log.warning("guests for ARM_64 are emulated: slow, and no security boundary (docs/arm.md)")
    return QemuDriver(engine, native.memory_shim_path(), 0, ARM_64, program)


async def describe(home: Path) -> str:
    """Say what AArch64 is emulated with, and what that means; nothing is fetched or changed for it."""
    program = find_program(home)
    has = (
        "QEMU for it is fetched with the first image" if program is None else f"QEMU {await find_version(str(program))}"
    )
    runs_steps = "run here" if await runs(ARM_64) else "run by what the server registers with the kernel (binfmt_misc)"
    return f"emulated: slow, and no security boundary; {has}; RUN steps {runs_steps}"


def find_program(home: Path) -> Path | None:
    """Return QEMU for AArch64 where it is there already: the machine's own, or one that was fetched into the home."""
    if found := shutil.which(ARM_64.qemu.program):
        return Path(found)
    fetched = _directory(home) / "usr/bin" / ARM_64.qemu.program
    return fetched if fetched.is_file() else None


async def ensure_program(home: Path) -> Path:
    """Return it; fetch it as a package of the machine's own release of Debian, whose libraries it needs.

    Raises:
        HostError: it cannot be had; the message says what to do.
    """
    if found := find_program(home):
        return found
    package = ARM_64.qemu.package
    remedy = f"install it: apt-get install --no-install-recommends {package}"
    try:
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError):
        raise HostError(f"{ARM_64.qemu.program} is missing, and this machine's release is unknown; {remedy}") from None
    try:
        return await ensure_packages(_directory(home), suite, [package]) / "usr/bin" / ARM_64.qemu.program
    except HostError as error:
        raise HostError(f"{error}; or {remedy}") from error


def _directory(home: Path) -> Path:
    return home / "packages" / ARM_64.qemu.package
