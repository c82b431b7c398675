"""What microVMs have used of late, and what AWS would have asked for it: processor and memory, while they ran.

Rates are those of AWS's price list for us-east-1 in August 2026 (dossier, section 12): the baseline of a microVM's size
for as long as it is RUNNING. Peaks above the baseline, snapshots and traffic are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from emberbox.model.caller import Caller
from emberbox.model.engines import ARM64_ENGINE
from emberbox.model.records import Event, Microvm
from emberbox.model.states import MicrovmState
from emberbox.store.events import EventStore
from emberbox.store.images import ImageStore
from emberbox.store.microvms import MicrovmStore

VCPU_MIB: Final = 2048
"""The memory that comes with a whole processor."""


class Rates(NamedTuple):
    """US dollars for a second of one vCPU, and of one GiB of memory."""

    vcpu: float
    gib: float


ARM: Final = Rates(0.0000276944, 0.0000036667)
X86: Final = Rates(0.0000326557, 0.0000043235)


@dataclass(slots=True)
class ImageSpending:
    """What the microVMs of one image have used.

    Args:
        image_arn: the image.
        launches: of it, forks among them.
        running_s: seconds in RUNNING, of all together.
        vcpu_s: seconds of a processor.
        gib_s: seconds of a GiB of memory.
        usd: what that is by the rates.
    """

    image_arn: str
    launches: int = 0
    running_s: float = 0.0
    vcpu_s: float = 0.0
    gib_s: float = 0.0
    usd: float = 0.0


class SpendingService:
    """Reckons it from the events.

    Args:
        events: the changes of states.
        microvms: what had them; those that were forgotten count no more.
        images: the sizes.
    """

    def __init__(self, events: EventStore, microvms: MicrovmStore, images: ImageStore) -> None:
        self._events = events
        self._microvms = microvms
        self._images = images

    def measure(self, caller: Caller, since: datetime, now: datetime) -> list[ImageSpending]:
        """Return what the microVMs of the caller's account have used between two moments, dearest first.

        Raises:
            HostError: the database cannot be read.
        """
        events = self._events.list_since(caller.account_id, since)
        microvms = {row.id: row for row in self._microvms.list_of_account(caller.account_id)}
        found: dict[str, ImageSpending] = {}
        for event in events:
            microvm = microvms.get(event.microvm_id)
            if microvm is not None and event.from_state is None:
                found.setdefault(microvm.image_arn, ImageSpending(microvm.image_arn)).launches += 1
        for microvm_id, seconds in running_seconds(events, microvms, since, now).items():
            microvm = microvms[microvm_id]
            self._add(found.setdefault(microvm.image_arn, ImageSpending(microvm.image_arn)), microvm, seconds)
        return sorted(found.values(), key=lambda one: (-one.usd, one.image_arn))

    def _add(self, spending: ImageSpending, microvm: Microvm, seconds: float) -> None:
        spending.running_s += seconds
        version = self._images.find_version(microvm.image_id, microvm.image_version)
        if version is None:
            return
        mib = version.request.size.baseline_mib
        rates = ARM if version.request.engine == ARM64_ENGINE else X86
        vcpu_s, gib_s = seconds * mib / VCPU_MIB, seconds * mib / 1024
        spending.vcpu_s += vcpu_s
        spending.gib_s += gib_s
        spending.usd += vcpu_s * rates.vcpu + gib_s * rates.gib


def running_seconds(
    events: Iterable[Event], microvms: Mapping[str, Microvm], since: datetime, now: datetime
) -> dict[str, float]:
    """Return for how many seconds each microVM was RUNNING between two moments; none of those that were not.

    Args:
        events: of these moments, oldest first.
        microvms: as they are now, by id.
        since: the first moment.
        now: the last.
    """
    spent: dict[str, float] = {}
    begun: dict[str, datetime] = {}
    seen: set[str] = set()
    for event in events:
        if event.microvm_id not in microvms:
            continue
        if event.microvm_id not in seen and event.from_state is MicrovmState.RUNNING:
            begun[event.microvm_id] = since
        seen.add(event.microvm_id)
        start = begun.pop(event.microvm_id, None)
        if start is not None:
            seconds = (event.happened_at - start).total_seconds()
            spent[event.microvm_id] = spent.get(event.microvm_id, 0.0) + seconds
        if event.state is MicrovmState.RUNNING:
            begun[event.microvm_id] = event.happened_at
    for microvm in microvms.values():
        if microvm.id not in seen and microvm.state is MicrovmState.RUNNING:
            begun[microvm.id] = max(since, microvm.started_at)
    for microvm_id, start in begun.items():
        spent[microvm_id] = spent.get(microvm_id, 0.0) + (now - start).total_seconds()
    return spent
