"""The engines that this machine runs microVMs on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from emberbox.model.engines import EngineReport
from emberbox.model.errors import HostError
from emberbox.time_limits import limit_s
from emberbox.vmm.drivers import Drivers

READY_WITHIN_S: Final = limit_s(40.0)
"""How long somebody is kept waiting, who has asked over the API: clients give up after a minute."""


class LocalEngines:
    """They, as `base.Engines`.

    Args:
        drivers: they.
    """

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers

    async def find_problem(self, name: str) -> str:
        """See `base.Engines`."""
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._drivers.ensure(name)
        except TimeoutError:
            return "it is still being made ready, as its program has to be fetched; ask again in a minute"
        except HostError as error:
            return str(error)
        return ""

    def report(self) -> Sequence[EngineReport]:
        """See `base.Engines`."""
        own = self._drivers.own
        return [
            EngineReport(driver.engine.name, str(driver.engine), driver.engine.accelerator, driver is own)
            for driver in self._drivers.list_made()
        ]
