"""What a machine's saved state is tied to: the VMM, its version, the accelerator and the processor.

State that was saved by one engine can be loaded by another only if that one is the same in everything the guest or the
VMM has relied on (docs/decisions/0018). This module says whether it is, and if not, why and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

NAMES = {"kvm": "KVM", "tcg": "software emulation (TCG)", "systrap": "its user-space kernel (systrap)"}
"""Accelerators as people call them."""

_NAMED_FEATURES_MAX = 8


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor that a guest on KVM sees: the host's, as far as KVM passes it on.

    Args:
        vendor: as CPUID gives it, such as `AuthenticAMD`.
        family: its number.
        model: its number.
        name: for people.
        features: everything that the guest may use, by QEMU's names.
    """

    vendor: str
    family: int
    model: int
    name: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs guests.

    Args:
        vmm: the program, such as `QEMU`; in small letters it is the engine's `name`.
        version: its version, such as `7.2.22`.
        accelerator: `kvm` or `tcg`; of gVisor its platform, `systrap`.
        processor: what its guests see; None where they are emulated, as that depends on the version alone.
    """

    vmm: str
    version: str
    accelerator: str
    processor: Processor | None = None

    @property
    def name(self) -> str:
        """The engine's name, as settings, tags and `engines.py` have it."""
        return self.vmm.lower()

    def __str__(self) -> str:
        """Return it in words."""
        on = "" if self.processor is None else f" on {self.processor.name}"
        return f"{self.vmm} {self.version} with {NAMES.get(self.accelerator, self.accelerator)}{on}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Engine:
        """Return what `to_json` made.

        Raises:
            KeyError, TypeError: it is something else.
        """
        processor = content["processor"]
        if processor is not None:
            processor = Processor(**{**processor, "features": tuple(processor["features"])})
        return cls(content["vmm"], content["version"], content["accelerator"], processor)

    def obstacle(self, saved: Engine | None) -> str | None:
        """Return why this engine cannot load what another has saved, and what to do; None when it can.

        Args:
            saved: None where the state does not say, as it did not in earlier releases: then loading it shows.
        """
        if saved is None or (problem := self._difference(saved)) is None:
            return None
        return f"it was saved by {saved}, and this server has {self}: {problem}"

    def _difference(self, saved: Engine) -> str | None:
        if saved.vmm != self.vmm:
            return (
                "state cannot change over from one to the other; start the server with EMBERBOX_ENGINE="
                f"{saved.name}, or build the image again"
            )
        if saved.accelerator != self.accelerator:
            return (
                "state cannot change over from one to the other; start the server with EMBERBOX_ACCELERATOR="
                f"{saved.accelerator} where that works (`emberbox doctor`), or build the image again"
            )
        if _series(saved.version) != _series(self.version):
            wanted = f"{saved.vmm} {'.'.join(_series(saved.version))}"
            return f"install {wanted} again and restart the server, or build the image again"
        if saved.processor is not None and self.processor is not None:
            return _processor_difference(saved.processor, self.processor)
        return None


def _series(version: str) -> tuple[str, ...]:
    """Return what stays the same with bug fixes: 7.2 of 7.2.22."""
    return tuple(version.split(".")[:2])


def _processor_difference(saved: Processor, present: Processor) -> str | None:
    """Return what the guest would miss; that a processor can do more does no harm."""
    remedy = f"go back to a machine with {saved.name}, or build the image again"
    if (saved.vendor, saved.family, saved.model) != (present.vendor, present.family, present.model):
        then, now = (f"{each.vendor} family {each.family} model {each.model}" for each in (saved, present))
        return f"the processor was {then} and is {now}; {remedy}"
    missing = sorted(set(saved.features) - set(present.features))
    if missing:
        more = f" and {len(missing) - _NAMED_FEATURES_MAX} more" if len(missing) > _NAMED_FEATURES_MAX else ""
        named = ", ".join(missing[:_NAMED_FEATURES_MAX]) + more
        return (
            f"the processor has lost {named} (firmware, microcode, host kernel and its modules decide that); {remedy}"
        )
    return None
