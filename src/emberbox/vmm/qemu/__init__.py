"""QEMU's `microvm` machine, with KVM where it works and software emulation (TCG) where it does not."""

from emberbox.vmm.qemu.driver import QemuDriver

__all__ = ["QemuDriver"]
