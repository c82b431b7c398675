"""gVisor: guests without a kernel of their own, each in a sandbox whose kernel is a process (user-space kernel)."""

from emberbox.vmm.gvisor.driver import GvisorDriver

__all__ = ["GvisorDriver"]
