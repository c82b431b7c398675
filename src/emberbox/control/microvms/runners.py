"""The microVMs that have not ended: where each one's owner is found."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from emberbox.control.microvms.runner import MicrovmRunner
from emberbox.model.errors import HostError

log = logging.getLogger(__name__)

_SUSPENDS_AT_ONCE: Final = 4


class Runners:
    """Finds the runner of every microVM that has not ended. `Launcher` makes them; one that ends is forgotten."""

    def __init__(self) -> None:
        self._by_id: dict[str, MicrovmRunner] = {}
        self._by_label: dict[str, MicrovmRunner] = {}

    def add(self, runner: MicrovmRunner) -> None:
        """Take in a runner."""
        self._by_id[runner.id] = self._by_label[runner.microvm.endpoint_label] = runner

    def forget(self, microvm_id: str) -> None:
        """Drop the runner of a microVM that has ended."""
        runner = self._by_id.pop(microvm_id, None)
        if runner is not None:
            self._by_label.pop(runner.microvm.endpoint_label, None)

    def find(self, microvm_id: str) -> MicrovmRunner | None:
        """Return the runner of a microVM; None when it has ended, or never was."""
        return self._by_id.get(microvm_id)

    def find_by_label(self, label: str) -> MicrovmRunner | None:
        """Return the runner of the microVM whose endpoint's name begins with a label."""
        return self._by_label.get(label)

    def list_all(self) -> list[MicrovmRunner]:
        """Return every runner."""
        return list(self._by_id.values())

    def memory_in_use(self, account_id: str) -> int:
        """Return how many MiB an account's microVMs have; suspended ones count (dossier, section 11)."""
        owned = (runner for runner in self._by_id.values() if runner.microvm.account_id == account_id)
        return sum(runner.version.request.size.baseline_mib for runner in owned)

    async def renew_egress(self, connector_arn: str) -> None:
        """Let what a connector allows now, perhaps nothing, count for every microVM that runs with it.

        Raises:
            HostError: it does not count for one of them.
        """
        failure: Exception | None = None
        for runner in self.list_all():
            if runner.microvm.request.egress[0].startswith(connector_arn):
                try:
                    await runner.renew_egress()
                except Exception as error:  # it counts for the others all the same
                    log.error("what %s may reach could not be changed: %s", runner.id, error)
                    failure = error
        if failure is not None:
            raise HostError(f"what a microVM may reach could not be changed: {failure}") from failure

    async def close(self) -> None:
        """Stop: suspend every microVM that runs, so that nothing is lost."""
        gate = asyncio.Semaphore(_SUSPENDS_AT_ONCE)

        async def stop(runner: MicrovmRunner) -> None:
            async with gate:
                try:
                    await runner.stop()
                except Exception:  # the others are stopped all the same
                    log.exception("%s could not be stopped in order", runner.id)

        await asyncio.gather(*(stop(runner) for runner in self.list_all()))
