"""QEMU's command line: golden pieces, and what must never be missing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

from emberbox.vmm.base import Cage, MachineShape
from emberbox.vmm.qemu import arguments
from emberbox.vmm.qemu.arguments import Descriptors

SHAPE = MachineShape(4, 8192)
BOOT = Descriptors(root=3, disk=4, memory=6, qmp=7, agent=8, tap=9, kernel=10, initramfs=11, console=12)
RESTORE = Descriptors(root=3, disk=4, memory=6, qmp=7, agent=8, tap=9, saved_devices=10)


def values_of(command: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(command) if name == option]


def test_the_machine_has_only_what_is_asked_for() -> None:
    command = arguments.machine_args(SHAPE, BOOT.memory, shared=True)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(command)
    assert values_of(command, "-smp") == ["4"]
    assert values_of(command, "-m") == ["8192"]
    assert values_of(command, "-object") == [
        "memory-backend-file,id=memory,size=8192M,mem-path=/proc/self/fd/6,share=on,prealloc=off,reserve=off"
    ]


def test_a_restored_machine_never_writes_to_its_memory_file() -> None:
    (memory,) = values_of(arguments.machine_args(SHAPE, RESTORE.memory, shared=False), "-object")
    assert "share=off" in memory


def test_boot_and_restore_have_the_same_devices_in_the_same_order() -> None:
    boot = arguments.device_args(BOOT)
    restore = arguments.device_args(RESTORE)
    assert values_of(boot, "-device") == values_of(restore, "-device")
    names = [value.split(",")[0] for value in values_of(boot, "-device")]
    assert names == [
        "virtio-blk-device",
        "virtio-blk-device",
        "virtio-net-device",
        "virtio-serial-device",
        "virtserialport",
        "virtio-rng-device",
        "virtio-balloon-device",
    ]


def test_the_root_is_read_only_and_the_disk_is_not() -> None:
    drives = values_of(arguments.device_args(BOOT), "-blockdev")
    assert all("read-only=on" in drive for drive in drives if "node-name=root" in drive)
    assert all("read-only=off" in drive for drive in drives if "node-name=disk" in drive)
    assert len(drives) == 4


def test_files_are_named_by_descriptors_only() -> None:
    command = [
        *arguments.machine_args(SHAPE, BOOT.memory, shared=True),
        *arguments.device_args(BOOT),
        *arguments.boot_args(BOOT, None),
    ]
    paths = [word for argument in command for word in argument.replace("=", ",").split(",") if word.startswith("/")]
    allowed = ("/proc/self/fd/", "/dev/fdset/", "/dev/urandom")
    assert all(path.startswith(allowed) for path in paths), paths


def test_the_sandbox_denies_everything_that_it_can() -> None:
    assert arguments.sandbox_args() == [
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]


def test_the_cage_drops_everything_before_qemu_starts() -> None:
    command = arguments.cage_args(Cage(1234, Path("/run/netns/void")))
    assert command == [
        *["nsenter", "--net=/run/netns/void", "--", "prlimit", "--core=0", "--", "setpriv", "--no-new-privs"],
        *["--reuid=1234", "--regid=1234", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"],
    ]


def test_a_cage_can_limit_the_processor_time() -> None:
    assert "--cpu=5:6" in arguments.cage_args(Cage(1234, None), cpu_limit_s=5)


def test_without_privileges_the_cage_keeps_the_user() -> None:
    command = arguments.cage_args(Cage(None, None))
    assert command == ["prlimit", "--core=0", "--", "setpriv", "--no-new-privs", "--"]


def test_the_user_network_is_closed() -> None:
    command = arguments.network_args(replace(BOOT, tap=None))
    assert values_of(command, "-netdev") == ["user,id=net,restrict=on,ipv6=off"]


def test_the_clock_rate_is_told_to_emulated_guests_only() -> None:
    assert "tsc_early_khz=2100000" in values_of(arguments.boot_args(BOOT, 2100000), "-append")[0]
    assert "tsc" not in values_of(arguments.boot_args(BOOT, None), "-append")[0]


def test_a_restore_waits_to_be_started() -> None:
    assert arguments.restore_args(RESTORE) == ["-incoming", "fd:10", "-S"]


def test_the_accelerators() -> None:
    assert arguments.accelerator_args("kvm", boots=True) == ["-accel", "kvm", "-cpu", "host"]
    assert arguments.accelerator_args("tcg", boots=True) == ["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm"]
    assert arguments.accelerator_args("tcg", boots=False) == ["-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm"]


def test_all_descriptors_are_handed_down() -> None:
    assert 13 in replace(BOOT, kvm=13).numbers()
    assert sorted(BOOT.numbers()) == [3, 4, 6, 7, 8, 9, 10, 11, 12]
    assert sorted(RESTORE.numbers()) == [3, 4, 6, 7, 8, 9, 10]
