"""Which engine a server runs guests with: what it was told, what works here, and what its home already holds."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

from emberbox.model.errors import HostError
from emberbox.vmm.engine import NAMES, Engine
from emberbox.vmm.qemu.probe import KvmProbe

log = logging.getLogger(__name__)

_SAVED = ("images/*/*/snapshot.json", "microvms/*/suspended.json", "microvms/*/base/snapshot.json")


def count_saved(home: Path) -> Counter[str]:
    """Return how many snapshots and suspended microVMs in a home were made with each accelerator, where they say so."""
    found: Counter[str] = Counter()
    for pattern in _SAVED:
        for path in home.glob(pattern):
            try:
                content = json.loads(path.read_text().partition("\n")[0])
                found[content["engine"]["accelerator"]] += 1
            except (OSError, ValueError, KeyError, TypeError):  # it is of before, or damaged: its load says so
                continue
    return found


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
            f"EMBERBOX_ACCELERATOR is kvm, and KVM does not work here: {kvm.problem}. Mend that (`emberbox doctor` "
            "tries it again), or set EMBERBOX_ACCELERATOR=tcg for emulated guests, which is no security boundary"
        )
    if saved["kvm"]:
        raise HostError(
            f"{saved['kvm']} snapshots and suspended microVMs of this home were made with KVM, and KVM does not work "
            f"here: {kvm.problem}. Mend that (`emberbox doctor` tries it again), or set EMBERBOX_ACCELERATOR=tcg to "
            "start without them: they stay as they are, and cannot be launched or resumed until KVM works"
        )
    return emulated
