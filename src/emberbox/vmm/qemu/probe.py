"""Is KVM of use here? A device file proves nothing: a software KVM runs a stock kernel so slowly that it stalls.

So a tiny guest is run: a boot sector's worth of code that counts in a loop and leaves through the debug-exit
device. Where the virtualisation is real it ends in a few hundredths of a second.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from emberbox import process
from emberbox.model.errors import HostError
from emberbox.vmm.base import Probe
from emberbox.vmm.qemu.arguments import BINARY

PROBE_TIMEOUT_S = 5.0
_EXIT_CODE = 0x10
_DEBUG_EXIT_STATUS = (_EXIT_CODE << 1) | 1

# 16-bit code for the start of a 64 KiB ROM. Real virtualisation runs it in well under a second, an instruction
# emulator in minutes.
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
_RESET_JUMP = b"\xe9\x0d\x00"  # at offset 0xFFF0: jmp to offset 0 of the segment


def _rom() -> bytes:
    rom = bytearray(b"\xf4" * 0x10000)
    rom[: len(_CODE)] = _CODE
    rom[0xFFF0 : 0xFFF0 + len(_RESET_JUMP)] = _RESET_JUMP
    return bytes(rom)


async def probe_accelerator() -> Probe:
    """Run the tiny guest with KVM; otherwise the answer is TCG, with the reason.

    Returns:
        `accelerator` is `kvm` or `tcg`; `usable` is False only when QEMU itself is missing.
    """
    try:
        version = (await process.run([BINARY, "--version"])).stdout.splitlines()[0]
    except HostError as error:
        return Probe(usable=False, accelerator="none", detail=str(error))
    if not Path("/dev/kvm").exists():
        return Probe(usable=True, accelerator="tcg", detail=f"{version}; there is no /dev/kvm")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        detail = f"{version}; /dev/kvm is not yours to open: join the group kvm"
        return Probe(usable=True, accelerator="tcg", detail=detail)
    problem = await run_tiny_guest()
    if problem:
        return Probe(usable=True, accelerator="tcg", detail=f"{version}; {problem}")
    return Probe(usable=True, accelerator="kvm", detail=version)


async def run_tiny_guest(accelerator: str = "kvm", processor: str = "host") -> str | None:
    """Return None when it ran well, otherwise what went wrong."""
    with tempfile.NamedTemporaryFile(suffix=".rom") as rom:
        rom.write(_rom())
        rom.flush()
        try:
            done = await process.run(
                [
                    *[BINARY, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "isapc"],
                    *["-accel", accelerator, "-cpu", processor, "-m", "16", "-bios", rom.name],
                    *["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-no-reboot"],
                ],
                timeout=PROBE_TIMEOUT_S,
                check=False,
            )
        except HostError:
            return f"/dev/kvm exists, but a tiny guest did not end within {PROBE_TIMEOUT_S:g} s"
    if done.returncode != _DEBUG_EXIT_STATUS:
        last = done.stderr.strip().splitlines()[-1:] or [process.describe_exit(done.returncode)]
        return f"/dev/kvm exists, but a tiny guest failed: {last[0][-200:]}"
    return None
