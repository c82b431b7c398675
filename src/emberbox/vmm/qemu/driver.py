"""Starting QEMU: open the files, lay them out as descriptors, spawn it in its cage, connect to its monitor."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from emberbox import process
from emberbox.adoption import AdoptedProcess
from emberbox.model.errors import HostError, VmmError
from emberbox.vmm.base import BootPlan, Cage, MemoryLayer, Probe, RestorePlan, Tap, UserNetwork, VmFiles
from emberbox.vmm.qemu import arguments
from emberbox.vmm.qemu.arguments import Descriptors, descriptor_path
from emberbox.vmm.qemu.clock import advance_clock
from emberbox.vmm.qemu.monitor import Monitor
from emberbox.vmm.qemu.probe import probe_accelerator
from emberbox.vmm.qemu.vm import QemuVm, last_error

MEMORY_BYTES_PER_MIB = 1 << 20
_SOCKET_PATH_MAX = 107


class QemuDriver:
    """Runs VMs with QEMU.

    Args:
        accelerator: `kvm` or `tcg`.
        memory_shim: the library that gives QEMU read-only layers of memory.
        tsc_khz: the rate of the machine's time-stamp counter, for emulated guests.
    """

    def __init__(self, accelerator: str, memory_shim: Path, tsc_khz: int) -> None:
        self._accelerator = accelerator
        self._memory_shim = memory_shim
        self._tsc_khz = tsc_khz if accelerator == "tcg" else None

    async def probe(self) -> Probe:
        """Run a tiny guest with KVM and say whether it counts."""
        return await probe_accelerator()

    async def boot(self, plan: BootPlan) -> QemuVm:
        """Start a VM from its kernel.

        Raises:
            VmmError: QEMU ended or did not answer.
            HostError: QEMU is missing, or a file cannot be made.
        """
        with contextlib.ExitStack() as opened:
            memory = _open(opened, plan.memory, os.O_RDWR | os.O_CREAT | os.O_EXCL, plan.cage)
            os.ftruncate(memory, plan.shape.mem_size_mib * MEMORY_BYTES_PER_MIB)
            console = _open(opened, plan.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, plan.cage)
            fds = Descriptors(
                **_common(opened, plan.files, plan.cage, plan.network),
                memory=memory,
                kernel=_open(opened, plan.kernel_image, os.O_RDONLY),
                initramfs=_open(opened, plan.initramfs, os.O_RDONLY),
                console=console,
            )
            command = [
                *arguments.accelerator_args(self._accelerator, boots=True),
                *arguments.machine_args(plan.shape, fds, shared=True),
                *arguments.device_args(plan.network, fds),
                *arguments.boot_args(fds, self._tsc_khz),
            ]
            return await self._spawn(opened, command, fds, plan.files, plan.cage, {}, plan.memory)

    async def restore(self, plan: RestorePlan) -> QemuVm:
        """Start a VM from saved state, paused.

        Raises:
            VmmError: QEMU ended, did not answer, or refused the saved state.
            HostError: QEMU is missing, or a file cannot be opened.
        """
        with contextlib.ExitStack() as opened:
            fds = Descriptors(
                **_common(opened, plan.files, plan.cage, plan.network),
                memory=_open(opened, plan.memory_base, os.O_RDONLY),
                saved_devices=self._open_devices(opened, plan),
            )
            layers, layer_fds = _open_layers(opened, plan.memory_layers)
            environment = {
                "LD_PRELOAD": os.fspath(self._memory_shim),
                "EMBERBOX_MEMORY_FD": str(fds.memory),
                "EMBERBOX_MEMORY_PATH": descriptor_path(fds.memory),
            }
            if layers is not None:
                environment["EMBERBOX_MEMORY_LAYERS_FD"] = str(layers)
            command = [
                *arguments.accelerator_args(self._accelerator, boots=False),
                *arguments.machine_args(plan.shape, fds, shared=False),
                *arguments.device_args(plan.network, fds),
                *arguments.restore_args(fds),
            ]
            vm = await self._spawn(
                opened, command, fds, plan.files, plan.cage, environment, plan.memory_base, layer_fds
            )
        try:
            await vm.wait_restored()
        except BaseException:
            await vm.kill()
            raise
        return vm

    def _open_devices(self, opened: contextlib.ExitStack, plan: RestorePlan) -> int:
        """Return the saved devices; those of an emulated guest with its clock moved on. KVM's clocks stay behind."""
        saved = _open(opened, plan.saved_devices, os.O_RDONLY)
        if self._tsc_khz is None or not plan.stood_still_s:
            return saved
        with tempfile.TemporaryFile() as moved:
            moved.write(advance_clock(plan.saved_devices.read_bytes(), plan.stood_still_s, self._tsc_khz))
            moved.flush()
            return _keep_open(opened, moved.fileno())

    async def adopt(self, vmm: AdoptedProcess, files: VmFiles, memory_base: Path) -> QemuVm:
        """Take over a VM that another server started: its monitor accepts a new connection.

        Raises:
            VmmError: QEMU does not answer.
        """
        monitor = await Monitor.connect(files.directory / "qmp.sock")
        return QemuVm(vmm, monitor, files, memory_base, files.directory / "vmm.log")

    async def _spawn(
        self,
        opened: contextlib.ExitStack,
        command: list[str],
        fds: Descriptors,
        files: VmFiles,
        cage: Cage,
        environment: Mapping[str, str],
        memory: Path,
        more_fds: tuple[int, ...] = (),
    ) -> QemuVm:
        log_path = files.directory / "vmm.log"
        with log_path.open("ab") as log:
            child = await process.start(
                [
                    *arguments.cage_args(cage),
                    arguments.BINARY,
                    *command,
                    *arguments.sandbox_args(),
                ],
                environment={"PATH": os.environ.get("PATH", os.defpath), **environment},
                stderr=log,
                pass_fds=[*fds.numbers(), *more_fds],
            )
        opened.close()  # QEMU alone has its sockets now: they end with it
        try:
            monitor = await Monitor.connect(files.directory / "qmp.sock")
        except VmmError:
            await child.kill_group()
            raise VmmError(f"QEMU did not start: {last_error(log_path)}") from None
        except BaseException:
            await child.kill_group()
            raise
        return QemuVm(child, monitor, files, memory, log_path)


def _open(opened: contextlib.ExitStack, path: Path, flags: int, owner: Cage | None = None) -> int:
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise HostError(f"{path.name} cannot be opened: {error.strerror}") from error
    opened.callback(os.close, fd)
    if owner is not None and owner.uid is not None:
        os.fchown(fd, owner.uid, owner.uid)
    return fd


def _keep_open(opened: contextlib.ExitStack, fd: int) -> int:
    """Return a descriptor of the same file, at its beginning, that outlives the given one."""
    kept = os.dup(fd)
    opened.callback(os.close, kept)
    os.lseek(kept, 0, os.SEEK_SET)
    return kept


def _listen(opened: contextlib.ExitStack, path: Path) -> int:
    """Return a listening socket; with it ready before QEMU starts, a client never has to poll for it."""
    path.unlink(missing_ok=True)
    listener = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    with _short_path(path) as bindable:
        listener.bind(bindable)
    path.chmod(0o600)
    listener.listen(8)
    return listener.fileno()


@contextlib.contextmanager
def _short_path(path: Path) -> Iterator[str]:
    """A socket's path is at most 107 bytes (unix(7)); a longer one is reached through its directory."""
    if len(os.fspath(path)) <= _SOCKET_PATH_MAX:
        yield os.fspath(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _common(opened: contextlib.ExitStack, files: VmFiles, cage: Cage, network: Tap | UserNetwork) -> dict[str, int]:
    fds = {
        "root": _open(opened, files.root, os.O_RDONLY),
        "disk": _open(opened, files.disk, os.O_RDWR, cage),
        "qmp": _listen(opened, files.directory / "qmp.sock"),
        "agent": _listen(opened, files.directory / "agent.sock"),
    }
    return fds | ({"tap": network.fd} if isinstance(network, Tap) else {})


def _open_layers(opened: contextlib.ExitStack, layers: tuple[MemoryLayer, ...]) -> tuple[int | None, tuple[int, ...]]:
    """Describe the layers to the memory shim in an unnamed file (the form is in agent/memory_shim.c)."""
    if not layers:
        return None, ()
    lines, fds = [], []
    for layer in layers:
        fd = _open(opened, layer.path, os.O_RDONLY)
        fds.append(fd)
        lines.append(f"file {fd}")
        lines += [f"{first} {count}" for first, count in layer.runs]
    with tempfile.TemporaryFile() as description:
        description.write("\n".join(lines).encode() + b"\n")
        description.flush()
        fd = _keep_open(opened, description.fileno())
    return fd, (*fds, fd)
