"""DescribeHost: what the machine has, and what microVMs use of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from typing import Any

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.runners import Runners
from emberbox.host.space import DiskSpace
from emberbox.host.usage import machine_memory
from emberbox.machine.pool import WarmPool
from emberbox.machine.usage import Usage
from emberbox.model.caller import Caller, Handler
from emberbox.model.errors import VmmError
from emberbox.store.images import ImageStore


class HostInfo:
    """Answers DescribeHost.

    Args:
        runners: the microVMs that have not ended.
        images: asked what pooled microVMs are of.
        pool: those that are prepared.
        space: the room on the disk.
    """

    def __init__(self, runners: Runners, images: ImageStore, pool: WarmPool, space: DiskSpace) -> None:
        self._runners = runners
        self._images = images
        self._pool = pool
        self._space = space

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation, by its name in the service model."""
        return {"DescribeHost": self.describe}

    async def describe(self, caller: Caller, _parameters: dict[str, Any]) -> Mapping[str, Any]:
        """DescribeHost: the machine, and each of the caller's microVMs that has not ended."""
        runners = [runner for runner in self._runners.list_all() if runner.microvm.account_id == caller.account_id]
        measured = await asyncio.to_thread(lambda: [shown for runner in runners if (shown := _measure(runner))])
        pooled = await asyncio.to_thread(self._measure_pool, caller.account_id)
        memory, room = machine_memory(), self._space.look()
        return {
            "cpuCount": os.cpu_count() or 1,
            "loadAverage": os.getloadavg()[0],
            "memoryTotalInBytes": memory.total,
            "memoryAvailableInBytes": memory.available,
            "diskFreeInBytes": room.free,
            "diskReserveInBytes": room.reserve,
            "microvms": measured,
            "pooledMicrovms": pooled,
        }

    def _measure_pool(self, account_id: str) -> list[dict[str, Any]]:
        shown = []
        for (image_id, version), pooled in self._pool.pooled():
            image = self._images.find_by_id(image_id)
            if image is not None and image.account_id == account_id:
                with contextlib.suppress(OSError, VmmError):  # it is just being taken or ended
                    names = {"imageArn": image.arn, "imageVersion": version}
                    shown.append(names | show_usage(pooled.guest.measure()))
        return shown


def _measure(runner: MicrovmRunner) -> dict[str, Any] | None:
    try:
        return {"microvmId": runner.id, **show_usage(runner.measure())}
    except (OSError, VmmError):  # it is just being started or ended
        return None


def show_usage(usage: Usage) -> dict[str, Any]:
    """Return what a microVM uses as the API shows it."""
    return {
        "memoryInBytes": usage.memory_bytes,
        "changedMemoryInBytes": usage.changed_bytes,
        "diskInBytes": usage.disk_bytes,
        "cpuSeconds": usage.cpu_s,
    }
