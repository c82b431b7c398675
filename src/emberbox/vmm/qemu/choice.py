"""Which accelerator QEMU runs guests with: what was asked for, what works here, and what the home already holds."""

from __future__ import annotations

import logging
from collections import Counter

from emberbox.host import architecture, native
from emberbox.model.errors import HostError
from emberbox.vmm.engine import NAMES, Engine
from emberbox.vmm.qemu.driver import QemuDriver
from emberbox.vmm.qemu.probe import KvmProbe, find_version, probe_kvm
from emberbox.vmm.request import EngineRequest

log = logging.getLogger(__name__)


async def make_driver(request: EngineRequest, kvm: KvmProbe | None = None) -> QemuDriver:
    """Return QEMU as this server uses it.

    Args:
        request: what is wanted.
        kvm: what the probe of KVM has found, where it has been tried already.

    Raises:
        HostError: it is missing, or cannot run guests as was asked for; the message says what to do.
    """
    shim, version = native.memory_shim_path(), await find_version()
    if request.accelerator == "tcg":
        kvm = None
    else:
        kvm = kvm or await probe_kvm(request.cage, shim)
        if kvm.problem:
            log.warning("KVM does not work here: %s", kvm.problem)
    engine = choose_engine(request.accelerator, version, kvm, Counter(request.saved))
    if engine.accelerator == "tcg":
        log.warning("guests are emulated: good for development and CI, no security boundary (docs/security.md)")
    guest = architecture.native()
    return QemuDriver(engine, shim, native.tsc_khz() if guest == architecture.X86_64 else 0, guest)


def choose_engine(wanted: str, version: str, kvm: KvmProbe | None, saved: Counter[str]) -> Engine:
    """Return the engine for a server.

    `auto` never changes over behind the back of what was made before: with the other accelerator nothing of it could be
    launched or resumed (docs/decisions/0018).

    Args:
        wanted: `auto`, `kvm` or `tcg`.
        version: QEMU's.
        kvm: what the probe of KVM found; None where it is not wanted.
        saved: from `count_saved`.

    Raises:
        HostError: it cannot be as wanted; the message says what to do.
    """
    emulated = Engine("QEMU", version, "tcg")
    if kvm is None:
        return emulated
    if kvm.engine is not None:
        if wanted == "auto" and saved["tcg"] and not saved["kvm"]:
            log.warning(
                "KVM works here, but guests go on with %s: all %d snapshots and suspended microVMs of this home were "
                "made with it; EMBERBOX_ACCELERATOR=kvm changes over, and then images are to be built again",
                NAMES["tcg"], saved["tcg"],
            )  # fmt: skip
            return emulated
        return kvm.engine
    if wanted == "kvm":
        raise HostError(
            f"KVM is asked for, and KVM does not work here: {kvm.problem}. Mend that (`emberbox doctor` "
            "tries it again), or set EMBERBOX_ACCELERATOR=tcg for emulated guests, which is no security boundary"
        )
    if saved["kvm"]:
        raise HostError(
            f"{saved['kvm']} snapshots and suspended microVMs of this home were made with KVM, and KVM does not work "
            f"here: {kvm.problem}. Mend that (`emberbox doctor` tries it again), or set EMBERBOX_ACCELERATOR=tcg to "
            "start without them: they stay as they are, and cannot be launched or resumed until KVM works"
        )
    return emulated
