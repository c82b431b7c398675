"""What the host has, and what microVMs use of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.control.microvms.runners import Runners
from emberbox.machine.base import Prepared
from emberbox.model.caller import Caller
from emberbox.model.errors import VmmError
from emberbox.model.usage import HostFigures, HostReport, MicrovmUsage, PooledUsage
from emberbox.store.images import ImageStore


class HostInfo:
    """Tells of the host.

    Args:
        runners: the microVMs that have not ended.
        images: asked what pooled microVMs are of.
        pool: those that are prepared.
        measure_host: returns the host's own figures.
    """

    def __init__(
        self, runners: Runners, images: ImageStore, pool: Prepared, measure_host: Callable[[], HostFigures]
    ) -> None:
        self._runners = runners
        self._images = images
        self._pool = pool
        self._measure_host = measure_host

    async def report(self, caller: Caller) -> HostReport:
        """Return the host's figures, and what each of the caller's microVMs that has not ended uses."""
        runners = [runner for runner in self._runners.list_all() if runner.microvm.account_id == caller.account_id]
        measured = await asyncio.to_thread(lambda: [used for runner in runners if (used := _measure(runner))])
        pooled = await asyncio.to_thread(self._measure_pool, caller.account_id)
        return HostReport(self._measure_host(), measured, pooled)

    def _measure_pool(self, account_id: str) -> list[PooledUsage]:
        measured = []
        for image_id, version, usage in self._pool.measure():
            image = self._images.find_by_id(image_id)
            if image is not None and image.account_id == account_id:
                measured.append(PooledUsage(image.arn, version, usage))
        return measured


def _measure(runner: MicrovmRunner) -> MicrovmUsage | None:
    try:
        return MicrovmUsage(runner.id, runner.measure())
    except (OSError, VmmError):  # it is just being started or ended
        return None
