"""The kinds of processor that guests have: what differs between them is here, a row for each.

A machine runs guests of its own kind, `native`. An x86 machine can emulate the other (docs/decisions/0050), which an
engine with a name of its own does, `qemu-arm64`. Made of the standard library alone.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Final

from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import HostError

_ELF_HEADER: Final = "7f454c460201010000000000000000000200{machine}00"
_ELF_MASK: Final = "ffffffffffffff00fffffffffffffffffeffffff"
"""What of an ELF header says that it is a program, or a library that can be started, of 64 bits (elf(5))."""


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """What QEMU plays.

    Args:
        program: QEMU for this processor.
        package: the Debian package that has it.
        machine: the machine and its properties, where it is emulated.
        machine_on_kvm: the same where it is not.
        firmware: its firmware's file; empty: QEMU itself leads to the kernel.
        emulated: the processor that an emulated guest sees.
        console: the kernel's console there, and what else it is told.
    """

    program: str
    package: str
    machine: str
    machine_on_kvm: str
    firmware: str
    emulated: str
    console: str


@dataclass(frozen=True, slots=True)
class Architecture:
    """One kind of processor.

    Args:
        name: what the service model calls it.
        machine: what the kernel calls it (uname(2)).
        debian: what Debian calls it.
        platform: what container images call it, with the system.
        kernel: Debian's package of its cloud kernel.
        user_program: QEMU that runs single programs for it on another processor (Debian's qemu-user-static).
        elf_machine: its number in ELF headers (hexadecimal, two digits).
        qemu: its machine.
    """

    name: str
    machine: str
    debian: str
    platform: str
    kernel: str
    user_program: str
    elf_machine: str
    qemu: QemuMachine

    @property
    def elf_header(self) -> bytes:
        """How its programs begin."""
        return bytes.fromhex(_ELF_HEADER.format(machine=self.elf_machine))

    @property
    def elf_mask(self) -> bytes:
        """Which bits of that count."""
        return bytes.fromhex(_ELF_MASK)


X86_64: Final = Architecture(
    name="X86_64",
    machine="x86_64",
    debian="amd64",
    platform="linux/amd64",
    kernel="linux-image-cloud-amd64",
    user_program="qemu-x86_64-static",
    elf_machine="3e",
    qemu=QemuMachine(
        program="qemu-system-x86_64",
        package="qemu-system-x86",
        machine="microvm,isa-serial=on",
        machine_on_kvm="microvm,isa-serial=on",
        firmware="qboot.rom",
        emulated="max,-erms,-fsrm",
        console="console=ttyS0 reboot=t",
    ),
)
ARM_64: Final = Architecture(
    name="ARM_64",
    machine="aarch64",
    debian="arm64",
    platform="linux/arm64",
    kernel="linux-image-cloud-arm64",
    user_program="qemu-aarch64-static",
    elf_machine="b7",
    # Version 3 of the interrupt controller: version 2 ends at 8 processors; KVM has what the machine has. The processor
    # is that of AWS's Graviton 2; `max` would sign pointers, which costs an emulator a lot.
    qemu=QemuMachine(
        program="qemu-system-aarch64",
        package="qemu-system-arm",
        machine="virt,gic-version=3",
        machine_on_kvm="virt,gic-version=host",
        firmware="",
        emulated="neoverse-n1",
        console="console=ttyAMA0",
    ),
)
ARCHITECTURES: Final = (X86_64, ARM_64)


def find_native() -> Architecture | None:
    """Return what this machine has; None where guests do not run on it."""
    machine = platform.machine()
    return next((one for one in ARCHITECTURES if one.machine == machine), None)


def native() -> Architecture:
    """Return what this machine has.

    Raises:
        HostError: guests do not run on it.
    """
    if (found := find_native()) is not None:
        return found
    kinds = " and ".join(one.machine for one in ARCHITECTURES)
    raise HostError(f"guests run on {kinds} only so far; this machine is {platform.machine()}")


def of_engine(name: str) -> Architecture:
    """Return what the guests of an engine have, by its name.

    Raises:
        HostError: it is the machine's own, and guests do not run on that.
    """
    return ARM_64 if name == ARM64_ENGINE else native()
