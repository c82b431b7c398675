"""Starting a caged process with open descriptors instead of paths: what the driver and the probe share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from emberbox import process
from emberbox.model.errors import HostError
from emberbox.process.watched import Child
from emberbox.vmm.base import Cage
from emberbox.vmm.qemu import arguments

KVM = Path("/dev/kvm")


def open_file(opened: contextlib.ExitStack, path: Path, flags: int, owner: Cage | None = None) -> int:
    """Open a file, made where the flags say so, and give it to the cage's user if one is named.

    Raises:
        HostError: it cannot be opened.
    """
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise HostError(f"{path.name} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, fd)
    if owner is not None and owner.uid is not None:
        os.fchown(fd, owner.uid, owner.uid)
    return fd


def open_kvm(opened: contextlib.ExitStack) -> int:
    """Open /dev/kvm for a VMM, whose own user may not do so.

    Raises:
        HostError: it is missing or may not be opened; the message says what to do.
    """
    try:
        fd = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HostError(
            f"there is no {KVM}: virtualisation is off in the firmware, the module kvm_intel or kvm_amd is not loaded, "
            "or this machine is virtual and its host passes none on"
        ) from None
    except PermissionError:
        raise HostError(
            f"{KVM} may not be opened by the server's user: make it a member of the group that owns it "
            "(`usermod -aG kvm USER`, then log in again), or run the server as root"
        ) from None
    except OSError as error:
        raise HostError(f"{KVM} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, fd)
    return fd


def keep_content(opened: contextlib.ExitStack, content: bytes) -> int:
    """Return a descriptor, at its beginning, of an unnamed file with this content that nobody can write to."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        kept = os.dup(file.fileno())
    opened.callback(os.close, kept)
    os.lseek(kept, 0, os.SEEK_SET)
    return kept


def shim_environment(shim: Path, kvm: int | None) -> dict[str, str]:
    """Return what loads the shim into QEMU and names the descriptor of /dev/kvm to it (agent/memory_shim.c)."""
    loaded = {"LD_PRELOAD": os.fspath(shim)}
    return loaded if kvm is None else {**loaded, "EMBERBOX_KVM_FD": str(kvm)}


async def spawn(
    cage: Cage,
    command: Sequence[str],
    fds: Sequence[int],
    environment: Mapping[str, str],
    log_path: Path,
    cpu_limit_s: int | None = None,
    program: int | None = None,
) -> Child:
    """Start QEMU in its cage; the caller owns it.

    Args:
        cage: what it is held in.
        command: QEMU's arguments, but for the sandbox.
        fds: what it inherits.
        environment: its whole environment, but for PATH.
        log_path: its errors are appended there.
        cpu_limit_s: seconds of processor time after which it is ended; None: any.
        program: QEMU, an open file; None: the one that is found by its name.

    Raises:
        CommandError: a program is missing.
    """
    qemu = arguments.BINARY if program is None else arguments.descriptor_path(program)
    with log_path.open("ab") as log:
        return await process.start(
            [*arguments.cage_args(cage, cpu_limit_s), qemu, *command, *arguments.sandbox_args()],
            environment={"PATH": os.environ.get("PATH", os.defpath), **environment},
            stderr=log,
            pass_fds=fds,
        )
