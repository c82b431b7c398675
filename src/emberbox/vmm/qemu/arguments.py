"""QEMU's command line, from plain data. Nothing here opens or starts anything."""

from __future__ import annotations

from dataclasses import dataclass

from emberbox.host.architecture import X86_64, Architecture, find_native
from emberbox.vmm.base import Cage, MachineShape

BINARY = (find_native() or X86_64).qemu.program
"""QEMU for guests of this machine's own kind."""

GUEST_MAC = "02:eb:00:00:00:01"
AGENT_PORT_NAME = "emberbox.agent"
# The table of TCP connections is looked through at every launch (agent/sever.c); the kernel would size it by memory.
BOOT_ARGS = "quiet loglevel=4 panic=-1 random.trust_cpu=on thash_entries=4096"

DISK_DEVICE = "disk-device"
SET_ROOT, SET_DISK, SET_DEVICES, SET_CONSOLE = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files that the QEMU process inherits, by number."""

    root: int
    disk: int
    memory: int
    qmp: int
    agent: int
    tap: int | None = None
    saved_devices: int | None = None
    kernel: int | None = None
    initramfs: int | None = None
    console: int | None = None
    kvm: int | None = None
    program: int | None = None

    def numbers(self) -> list[int]:
        """Return all that are set."""
        fields = (getattr(self, name) for name in self.__slots__)
        return [number for number in fields if number is not None]


def descriptor_path(fd: int) -> str:
    """Return a path by which the process itself reaches an inherited descriptor."""
    return f"/proc/self/fd/{fd}"


def accelerator_args(accelerator: str, *, boots: bool, guest: Architecture = X86_64) -> list[str]:
    """Return the engine and the processor that the guest sees.

    An emulated guest boots on one thread (docs/decisions/0014): while a kernel boots it patches its own code, and QEMU
    before 8.1 may keep an earlier state of what one processor patches while another executes it.

    Nor is it told that its processor copies and clears memory well byte by byte (ERMS, FSRM): the emulator does it byte
    by byte indeed, and eight bytes at a time otherwise (docs/decisions/0015).
    """
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", f"tcg,thread={'single' if boots else 'multi'}", "-cpu", guest.qemu.emulated]


def machine_args(
    shape: MachineShape,
    memory_fd: int,
    *,
    shared: bool,
    firmware: str = "",
    guest: Architecture = X86_64,
    accelerator: str = "tcg",
) -> list[str]:
    """Return the machine: `shared` memory is written to its file, otherwise it is copy-on-write.

    Saved devices come without a description of themselves, so a restore must not look for one.

    Its firmware is given by name: what a machine `microvm` has otherwise is SeaBIOS since Debian 13, which asks for a
    disk of the guest's while the kernel begins, and there the machine starts again (-no-reboot: it ends).
    """
    firmware = firmware or guest.qemu.firmware
    machine = guest.qemu.machine_on_kvm if accelerator == "kvm" else guest.qemu.machine
    memory = (
        f"memory-backend-file,id=memory,size={shape.mem_size_mib}M,mem-path={descriptor_path(memory_fd)},"
        f"share={'on' if shared else 'off'},prealloc=off,reserve=off"
    )
    return [
        *["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
        *["-machine", f"{machine},memory-backend=memory,suppress-vmdesc=on"],
        *["-smp", str(shape.vcpu_count), "-m", str(shape.mem_size_mib), "-object", memory],
        *(["-bios", firmware] if firmware else []),
        *["-global", "migration.send-configuration=off"],
    ]


def _drive_args(name: str, fd: int, set_number: int, *, read_only: bool) -> list[str]:
    mode = "on" if read_only else "off"
    backing = (
        f"driver=file,node-name={name}-file,filename=/dev/fdset/{set_number},locking=off,discard=unmap,read-only={mode}"
    )
    return [
        *["-add-fd", f"fd={fd},set={set_number}"],
        *["-blockdev", backing],
        *["-blockdev", f"driver=raw,node-name={name},file={name}-file,discard=unmap,read-only={mode}"],
        *["-device", f"virtio-blk-device,id={name}-device,drive={name},serial={name}"],
    ]


def network_args(fds: Descriptors) -> list[str]:
    """Return the one network device: on a tap where there is one, else in QEMU's own network, which is closed."""
    device = ["-device", f"virtio-net-device,netdev=net,mac={GUEST_MAC}"]
    if fds.tap is not None:
        return ["-netdev", f"tap,id=net,fd={fds.tap}", *device]
    return ["-netdev", "user,id=net,restrict=on,ipv6=off", *device]


def device_args(fds: Descriptors) -> list[str]:
    """Return the devices. Their order is their address in the guest: the same at boot and at every launch."""
    console = "null,id=console" if fds.console is None else f"file,id=console,path=/dev/fdset/{SET_CONSOLE}"
    return [
        *([] if fds.console is None else ["-add-fd", f"fd={fds.console},set={SET_CONSOLE}"]),
        *["-chardev", console, "-serial", "chardev:console"],
        *_drive_args("root", fds.root, SET_ROOT, read_only=True),
        *_drive_args("disk", fds.disk, SET_DISK, read_only=False),
        *network_args(fds),
        *["-device", "virtio-serial-device"],
        *["-chardev", f"socket,id=agent,fd={fds.agent},server=on,wait=off"],
        *["-device", f"virtserialport,chardev=agent,name={AGENT_PORT_NAME}"],
        *["-object", "rng-random,id=random,filename=/dev/urandom"],
        *["-device", "virtio-rng-device,rng=random"],
        *["-device", "virtio-balloon-device,free-page-reporting=on"],
        *monitor_args(fds.qmp),
    ]


def monitor_args(fd: int) -> list[str]:
    """Return QEMU's monitor on a listening socket."""
    return ["-chardev", f"socket,id=qmp,fd={fd},server=on,wait=off", "-mon", "chardev=qmp,mode=control"]


def name_args(fds: Descriptors, guest: Architecture) -> list[str]:
    """Return what gives QEMU the name that it has otherwise, where it is run as a descriptor."""
    return [] if fds.program is None else ["-name", f"process={guest.qemu.program}"]


def sandbox_args() -> list[str]:
    """Return QEMU's own seccomp filter: no new privileges, no children, no scheduling or limits of others."""
    return ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]


def boot_args(fds: Descriptors, tsc_khz: int | None, guest: Architecture = X86_64) -> list[str]:
    """Return what a cold boot adds; `tsc_khz` is told to a kernel that has no other clock to measure it by."""
    assert fds.kernel is not None
    assert fds.initramfs is not None
    kernel, initramfs = descriptor_path(fds.kernel), descriptor_path(fds.initramfs)
    clock = "" if tsc_khz is None else f" tsc=reliable tsc_early_khz={tsc_khz}"
    return ["-kernel", kernel, "-initrd", initramfs, "-append", f"{guest.qemu.console} {BOOT_ARGS}{clock}"]


def restore_args(fds: Descriptors) -> list[str]:
    """Return what a start from saved devices adds; the kernel is in the memory already."""
    return ["-incoming", f"fd:{fds.saved_devices}", "-S"]


def cage_args(cage: Cage, cpu_limit_s: int | None = None) -> list[str]:
    """Return the commands that put QEMU into its cage before it starts, with a limit of processor time if need be."""
    enter = [] if cage.network_namespace is None else ["nsenter", f"--net={cage.network_namespace}", "--"]
    cpu = [] if cpu_limit_s is None else [f"--cpu={cpu_limit_s}:{cpu_limit_s + 1}"]  # SIGXCPU, then SIGKILL
    limits = ["prlimit", "--core=0", *cpu, "--"]
    drop = ["setpriv", "--no-new-privs"]
    if cage.uid is not None:
        user = [f"--reuid={cage.uid}", f"--regid={cage.uid}", "--clear-groups"]
        drop += [*user, "--inh-caps=-all", "--bounding-set=-all"]
    return [*enter, *limits, *drop, "--"]
