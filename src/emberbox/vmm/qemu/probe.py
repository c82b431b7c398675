"""Is KVM of use here? A device file proves nothing: a software KVM runs a stock kernel so slowly that it stalls.

So a tiny guest is run: a boot sector's worth of code that counts in a loop and switches itself off.
Where the virtualisation is real it uses a few hundredths of a second. It is run as every microVM is, with the same
machine, in the same cage and as a user of its own: what works for root need not work for that user.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox import process
from emberbox.host.architecture import Architecture, native
from emberbox.host.sockets import listen
from emberbox.model.errors import HostError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Cage, MachineShape
from emberbox.vmm.engine import Engine
from emberbox.vmm.qemu import arguments
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.spawn import keep_content, open_file, open_kvm, shim_environment, spawn
from emberbox.vmm.qemu.vm import last_error

PROBE_CPU_S = round(limit_s(5))
"""What the tiny guest may use of the processor: on a busy machine it waits for long, but does not use more."""

PROBE_TIMEOUT_S = limit_s(60.0)
_SHAPE = MachineShape(1, 16)
_EXIT_CODE = 0x10
_DEBUG_EXIT_STATUS = (_EXIT_CODE << 1) | 1

# 16-bit code for the start of a 64 KiB ROM, which leaves through the debug-exit device. Real virtualisation runs it in
# well under a second, an instruction emulator in minutes.
_CODE = b"".join(
    (
        b"\x66\xb9\x00\xe1\xf5\x05",  # mov ecx, 100000000
        b"\x66\x49",  # dec ecx
        b"\x75\xfc",  # jnz to the dec
        bytes((0xB0, _EXIT_CODE)),  # mov al, code
        b"\xe6\xf4",  # out 0xf4, al
        b"\xf4",  # hlt
    )
)
_ARM_CODE = b"".join(
    word.to_bytes(4, "little")
    for word in (
        0xD2A0BEA1,  # movz x1, #0x5f5, lsl #16: 99,942,400
        0xF1000421,  # subs x1, x1, #1
        0x54FFFFE1,  # b.ne to the subs
        0x52800100,  # movz w0, #8
        0x72B08000,  # movk w0, #0x8400, lsl #16: PSCI SYSTEM_OFF
        0xD4000002,  # hvc #0
        0x14000000,  # b to itself
    )
)
_RESET_JUMP = b"\xe9\x0d\x00"  # at offset 0xFFF0: jmp to offset 0 of the segment


@dataclass(frozen=True, slots=True)
class KvmProbe:
    """Whether guests can run on KVM.

    Args:
        engine: what they run with; None when they cannot.
        problem: why not, and what to do; empty when they can.
    """

    engine: Engine | None
    problem: str = ""


async def find_version(program: str = "") -> str:
    """Return the version of a QEMU, such as `7.2.22`; by default of the installed one.

    Raises:
        HostError: there is none, or it does not say.
    """
    program = program or arguments.BINARY
    shown = (await process.run([program, "--version"], timeout=PROBE_TIMEOUT_S)).stdout
    match = re.search(r"version (\d+(?:\.\d+)+)", shown)
    if match is None:
        raise HostError(f"{program} --version does not say its version: {shown.strip()[:200]!r}")
    return match[1]


async def probe_kvm(cage: Cage, shim: Path) -> KvmProbe:
    """Run the tiny guest on KVM.

    Args:
        cage: that of a microVM.
        shim: the library through which QEMU gets /dev/kvm.

    Raises:
        HostError: QEMU is missing.
    """
    try:
        return KvmProbe(await run_tiny_guest(cage, shim, "kvm"))
    except process.CommandError:
        raise
    except (VmmError, HostError) as error:
        return KvmProbe(None, str(error))


async def run_tiny_guest(
    cage: Cage, shim: Path, accelerator: str, guest: Architecture | None = None, program: Path | None = None
) -> Engine:
    """Run the tiny guest to its end and return what it ran with.

    Args:
        cage: that of a microVM.
        shim: see `probe_kvm`.
        accelerator: `kvm` or `tcg`.
        guest: its processor; None is this machine's.
        program: QEMU, where it is not the one that is found by its name.

    Raises:
        HostError: the accelerator cannot be opened, or QEMU is missing.
        VmmError: the guest did not run as it should.
    """
    with tempfile.TemporaryDirectory(prefix="emberbox-probe-") as name, contextlib.ExitStack() as opened:
        directory, environment = Path(name), {}
        kind = guest or native()
        tiny = _TINY[kind.name]
        kvm = open_kvm(opened) if accelerator == "kvm" else None
        environment = shim_environment(shim, kvm)
        memory = open_file(opened, directory / "memory", os.O_RDWR | os.O_CREAT | os.O_EXCL, cage)
        os.ftruncate(memory, _SHAPE.mem_size_mib << 20)
        qmp, rom = listen(opened, directory / "qmp.sock"), keep_content(opened, tiny.rom())
        firmware = arguments.descriptor_path(rom)
        command = [
            *arguments.accelerator_args(accelerator, boots=True, guest=kind),
            *arguments.machine_args(
                _SHAPE, memory, shared=True, firmware=firmware, guest=kind, accelerator=accelerator
            ),
            *[*tiny.leaves_by, "-S", *arguments.monitor_args(qmp)],
        ]
        qemu = None if program is None else open_file(opened, program, os.O_RDONLY)
        fds = [one for one in (memory, qmp, rom, kvm, qemu) if one is not None]
        child = await spawn(cage, command, fds, environment, directory / "vmm.log", PROBE_CPU_S, qemu)
        opened.close()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                engine = await _let_run(directory, accelerator)
                returncode = await child.wait()
        except TimeoutError:
            raise VmmError(f"a tiny guest did not end within {PROBE_TIMEOUT_S:g} s") from None
        except VmmError:
            raise VmmError(f"a tiny guest did not start: {last_error(directory / 'vmm.log')}") from None
        finally:
            await child.kill_group()
        if returncode == -signal.SIGXCPU:
            raise VmmError(f"a tiny guest used {PROBE_CPU_S} s of processor time: the virtualisation is not real")
        if returncode != tiny.status:
            words = last_error(directory / "vmm.log")
            raise VmmError(f"a tiny guest failed: QEMU {process.describe_exit(returncode)}: {words}")
        return engine


async def _let_run(directory: Path, accelerator: str) -> Engine:
    """Ask QEMU what it is, then let its guest run.

    Raises:
        VmmError: it ended or did not answer.
    """
    monitor = await Monitor.connect(directory / "qmp.sock")
    try:
        engine = await monitor.find_engine()
        if engine.accelerator != accelerator:
            raise VmmError(f"QEMU runs with {engine.accelerator}")
        await monitor.execute("cont")
    finally:
        await monitor.close()
    return engine


def _rom() -> bytes:
    rom = bytearray(b"\xf4" * 0x10000)
    rom[: len(_CODE)] = _CODE
    rom[0xFFF0 : 0xFFF0 + len(_RESET_JUMP)] = _RESET_JUMP
    return bytes(rom)


@dataclass(frozen=True, slots=True)
class _TinyGuest:
    """What the tiny guest is on one kind of processor.

    Args:
        rom: returns its code, where the processor begins.
        leaves_by: QEMU's arguments for the device that it leaves through.
        status: QEMU's exit code when it has.
    """

    rom: Callable[[], bytes]
    leaves_by: tuple[str, ...]
    status: int


_TINY: Final[Mapping[str, _TinyGuest]] = {
    "X86_64": _TinyGuest(_rom, ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"), _DEBUG_EXIT_STATUS),
    "ARM_64": _TinyGuest(lambda: _ARM_CODE, (), 0),
}
