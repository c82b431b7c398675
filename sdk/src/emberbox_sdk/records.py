"""What the server tells of what has happened and of what things use: lines of logs, changes of state, the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a build or an application has written.

    Attributes:
        id: by which it is told from others.
        moment: when.
        message: without the end of the line.
        stream: of whom: of a build, or of one sandbox.
    """

    id: str
    moment: datetime
    message: str
    stream: str

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970."""
        return round(self.moment.timestamp() * 1000)

    @classmethod
    def read(cls, event: Mapping[str, Any]) -> LogLine:
        """Return an event of CloudWatch Logs as a line."""
        moment = datetime.fromtimestamp(int(event["timestamp"]) / 1000, UTC)
        return cls(event["eventId"], moment, event["message"].rstrip(), event.get("logStreamName") or "")


@dataclass(frozen=True, slots=True)
class SandboxEvent:
    """A change of a sandbox's state.

    Attributes:
        id: later ones have larger numbers.
        moment: when it happened.
        sandbox_id: of which sandbox.
        before: its state before; empty for a new one.
        state: its state from then on.
        actor: who set it off, such as API, REQUEST, IDLE_POLICY or SERVER.
        reason: why: an operation's name, or a sentence.
        duration_ms: how long it took to get there; 0 where something only begins.
    """

    id: int
    moment: datetime
    sandbox_id: str
    before: str
    state: str
    actor: str
    reason: str
    duration_ms: int

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> SandboxEvent:
        """Return an item of ListEvents."""
        return cls(
            id=int(item["eventId"]),
            moment=datetime.fromtimestamp(float(item["time"]), UTC),
            sandbox_id=item["microvmId"],
            before=item.get("fromState") or "",
            state=item["state"],
            actor=item["actor"],
            reason=item["reason"],
            duration_ms=int(item["durationInMilliseconds"]),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What one sandbox uses of the machine.

    Attributes:
        sandbox_id: which one; empty for one that is prepared for launches to come.
        memory_bytes: of the machine's memory, with its share of what it has in common with others; 0 when suspended.
        changed_memory_bytes: of its memory, changed since its last start.
        disk_bytes: stored in files of its own.
        cpu_s: processor time since its last start.
        image: of one that is prepared, the image's name.
        version: the image's version.
    """

    sandbox_id: str
    memory_bytes: int
    changed_memory_bytes: int
    disk_bytes: int
    cpu_s: float
    image: str = ""
    version: str = ""

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Usage:
        """Return an item of DescribeHost."""
        return cls(
            sandbox_id=item.get("microvmId") or "",
            memory_bytes=int(item["memoryInBytes"]),
            changed_memory_bytes=int(item["changedMemoryInBytes"]),
            disk_bytes=int(item["diskInBytes"]),
            cpu_s=float(item["cpuSeconds"]),
            image=str(item.get("imageArn") or "").rpartition(":")[2],
            version=item.get("imageVersion") or "",
        )


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that the server runs on.

    Attributes:
        cpus: how many processors.
        load: of the last minute.
        memory_total_bytes: all memory.
        memory_available_bytes: what can be had without swapping.
        disk_free_bytes: free space where the server keeps its state.
        disk_reserve_bytes: with less free space nothing new begins; with less than half of it, writes wait.
        sandboxes: what each of the caller's sandboxes uses that have not ended.
        prepared: the same of those that wait for launches of the caller's images.
    """

    cpus: int
    load: float
    memory_total_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int
    disk_reserve_bytes: int
    sandboxes: tuple[Usage, ...]
    prepared: tuple[Usage, ...]

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Host:
        """Return the answer of DescribeHost."""
        return cls(
            cpus=int(answer["cpuCount"]),
            load=float(answer["loadAverage"]),
            memory_total_bytes=int(answer["memoryTotalInBytes"]),
            memory_available_bytes=int(answer["memoryAvailableInBytes"]),
            disk_free_bytes=int(answer["diskFreeInBytes"]),
            disk_reserve_bytes=int(answer["diskReserveInBytes"]),
            sandboxes=tuple(map(Usage.read, answer["microvms"])),
            prepared=tuple(map(Usage.read, answer["pooledMicrovms"])),
        )
