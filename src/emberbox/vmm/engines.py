"""The engines by name. Adding one is one entry here (docs/adding-an-engine.md)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from emberbox.host import native
from emberbox.host.network.slots import DeviceKind
from emberbox.model.errors import HostError
from emberbox.vmm.base import VmmDriver
from emberbox.vmm.gvisor.choice import make_driver as make_gvisor
from emberbox.vmm.qemu.choice import make_driver as make_qemu
from emberbox.vmm.qemu.probe import probe_kvm
from emberbox.vmm.request import EngineRequest

log = logging.getLogger(__name__)

MakeDriver = Callable[[EngineRequest], Awaitable[VmmDriver]]
"""Makes an engine, or raises a HostError that says why it does not work here and what to do."""

Try = Callable[[], Awaitable[str]]
"""Tries an engine; returns why it does not work here, empty when it does."""


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """One engine.

    Args:
        make: makes it.
        device: what a `Wire` opens for it.
    """

    make: MakeDriver
    device: DeviceKind


ENGINES: Final[Mapping[str, EngineEntry]] = {
    "qemu": EngineEntry(make_qemu, DeviceKind.TAP),
    "gvisor": EngineEntry(make_gvisor, DeviceKind.PACKETS),
}

AUTO: Final = "auto"
BEST: Final = "best"
DEFAULT_ENGINE: Final = "qemu"
"""What `auto` stands for. It is to be `best` once tests/vm pass on gVisor as a whole."""

_OF_QEMU: Final = ("kvm", "tcg")


async def find_name(wanted: str, request: EngineRequest) -> str:
    """Return the name of the engine that the setting EMBERBOX_ENGINE stands for here; `best` tries what there is.

    Raises:
        HostError: QEMU is missing, where it is needed to try KVM.
    """
    if (name := DEFAULT_ENGINE if wanted == AUTO else wanted) != BEST:
        return name
    if request.accelerator != AUTO:
        return "qemu"  # the operator has asked for one of its accelerators

    async def try_kvm() -> str:
        return (await probe_kvm(request.cage, native.memory_shim_path())).problem

    async def try_sandbox() -> str:
        try:
            await make_gvisor(request)
        except HostError as error:
            return str(error)
        return ""

    return await find_best(try_kvm, try_sandbox, request.saved)


async def find_best(try_kvm: Try, try_sandbox: Try, saved: Mapping[str, int]) -> str:
    """Return the engine with the strongest boundary: QEMU on KVM, else gVisor, else QEMU emulated.

    A home never changes over by itself: nothing of what it holds could be launched or resumed (docs/decisions/0018).

    Args:
        try_kvm: runs a tiny guest on KVM.
        try_sandbox: runs, saves and restores a tiny sandbox; it is not tried where KVM works.
        saved: how many snapshots and suspended microVMs of the home were made with each accelerator.
    """
    kvm_problem = await try_kvm()
    sandbox_problem = "not tried" if not kvm_problem else await try_sandbox()
    best = "gvisor" if kvm_problem and not sandbox_problem else "qemu"
    of_qemu, of_gvisor = sum(saved.get(each, 0) for each in _OF_QEMU), saved.get("systrap", 0)
    kept = "qemu" if of_qemu and not of_gvisor else "gvisor" if of_gvisor and not of_qemu else best
    if kept != best:
        log.warning(
            "%s would be the best engine here, but guests go on with %s: all snapshots and suspended microVMs of this "
            "home were made with it; EMBERBOX_ENGINE=%s changes over, and then images are to be built again",
            best, kept, best,
        )  # fmt: skip
    elif kvm_problem:
        log.info("the engine is %s: KVM: %s; gVisor: %s", best, kvm_problem, sandbox_problem or "works")
    return kept
