"""The engines by name. Adding one is one entry here (docs/adding-an-engine.md)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from emberbox.host import native
from emberbox.host.network.slots import DeviceKind
from emberbox.model.boundary import Boundary, boundary_of
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.errors import HostError
from emberbox.vmm.base import Capabilities, VmmDriver
from emberbox.vmm.engine import Engine
from emberbox.vmm.gvisor.choice import make_driver as make_gvisor
from emberbox.vmm.gvisor.driver import CAPABILITIES as OF_GVISOR
from emberbox.vmm.qemu.arm64 import make_driver as make_arm64
from emberbox.vmm.qemu.choice import make_driver as make_qemu
from emberbox.vmm.qemu.driver import CAPABILITIES as OF_QEMU
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
        capabilities: what it can do, and what it wants of a network.
    """

    make: MakeDriver
    capabilities: Capabilities


ENGINES: Final[Mapping[str, EngineEntry]] = {
    "qemu": EngineEntry(make_qemu, OF_QEMU),
    "gvisor": EngineEntry(make_gvisor, OF_GVISOR),
}

AUTO: Final = "auto"
_OF_QEMU: Final = ("kvm", "tcg")


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine that a server is to have.

    Args:
        name: its name.
        make: makes it; what was tried to find the name is not tried again.
    """

    name: str
    make: MakeDriver

    @property
    def device(self) -> DeviceKind:
        """What it is connected by, known before it is made."""
        return ENGINES[self.name].capabilities.device


async def choose(wanted: str, request: EngineRequest, networks: str = "") -> Choice:
    """Return the engine that the setting EMBERBOX_ENGINE stands for here; `auto` tries what there is.

    Args:
        wanted: the setting.
        request: what is known here.
        networks: why guests have no networks of the host's; empty where they have.

    Raises:
        HostError: QEMU is missing, where it is needed to try KVM; or the engine needs networks of the host's.
    """
    if wanted != AUTO:
        if networks and not ENGINES[wanted].capabilities.user_network:
            raise HostError(f"the engine {wanted} needs networks of the host's (docs/network.md): {networks}")
        return Choice(wanted, ENGINES[wanted].make)
    if request.accelerator != AUTO:
        return Choice("qemu", ENGINES["qemu"].make)  # the operator has asked for one of its accelerators
    tried: dict[str, MakeDriver] = {}

    async def try_kvm() -> str:
        probe = await probe_kvm(request.cage, native.memory_shim_path())
        tried["qemu"] = partial(make_qemu, kvm=probe)
        return probe.problem

    async def try_sandbox() -> str:
        if networks:
            return f"sandboxes need networks of the host's: {networks}"
        try:
            driver = await make_gvisor(request)
        except HostError as error:
            return str(error)
        tried["gvisor"] = partial(_keep, driver)
        return ""

    name = await find_best(try_kvm, try_sandbox, request.saved)
    return Choice(name, tried.get(name, ENGINES[name].make))


async def _keep(driver: VmmDriver, _request: EngineRequest) -> VmmDriver:
    return driver


async def make_other(name: str, request: EngineRequest, own: Engine) -> VmmDriver:
    """Make another engine than the server's own, for images that ask for it and for what the home holds of it.

    Where the server's own guests are behind a boundary, no image gets itself out of it: emulation isolates nobody, and
    is to be asked for by the operator (EMBERBOX_ACCELERATOR=tcg, and EMBERBOX_ARM64=emulate for AArch64 alone).

    Args:
        name: the engine's.
        request: what is known here.
        own: what the server itself has.

    Raises:
        HostError: it cannot be used here; the message says what to do.
    """
    if name == ARM64_ENGINE:
        return await make_arm64(request)
    if name not in ENGINES:
        raise HostError(f"there is no engine {name}; there are {', '.join(ENGINES)}")
    if request.accelerator == AUTO and boundary_of(own.accelerator) is not Boundary.NONE:
        request = replace(request, accelerator="kvm")
    return await ENGINES[name].make(request)


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
