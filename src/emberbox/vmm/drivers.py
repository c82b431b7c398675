"""The engines of one server: its own, and others, each made when something first asks for it by its name.

What a snapshot was saved by, that loads it. So everything that reads an engine's capabilities asks the one that a
guest runs on, never "the server's".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from emberbox.background import Background
from emberbox.model.errors import HostError, VmmError
from emberbox.vmm.base import VmmDriver
from emberbox.vmm.engine import Engine

MakeOther = Callable[[str], Awaitable[VmmDriver]]
"""Makes another engine, by its name; raises a HostError that says why it cannot be used here, and what to do."""


async def make_no_other(name: str) -> VmmDriver:
    """Refuse it: there is one engine.

    Raises:
        HostError: always.
    """
    raise HostError(f"this server has no engine {name}")


class Drivers:
    """They, by name.

    Args:
        own: the server's own, which serves where nobody asks for another.
        make_other: makes others.
    """

    def __init__(self, own: VmmDriver, make_other: MakeOther = make_no_other) -> None:
        self.own = own
        self._make_other = make_other
        self._made = {own.engine.name: own}
        self._problems: dict[str, str] = {}
        self._making: dict[str, asyncio.Task[VmmDriver]] = {}
        self._background = Background()

    def list_made(self) -> list[VmmDriver]:
        """Return those that there are now, the server's own first."""
        return list(self._made.values())

    async def ensure(self, name: str = "") -> VmmDriver:
        """Return an engine, and make it where there is none yet; one that could not be made is tried again.

        Whoever waits may be cancelled: the making goes on, for who asks next.

        Args:
            name: its name; empty is the server's own.

        Raises:
            HostError: it cannot be used here; the message says what to do.
        """
        if not name:
            return self.own
        if name in self._made:
            return self._made[name]
        if name not in self._making:
            making = self._background.start(self._make(name), f"the start of the engine {name}")
            self._making[name] = making
            making.add_done_callback(lambda _made: self._making.pop(name))
        return await asyncio.shield(self._making[name])

    async def _make(self, name: str) -> VmmDriver:
        try:
            self._made[name] = await self._make_other(name)
        except HostError as error:
            self._problems[name] = str(error)
            raise
        self._problems.pop(name, None)
        return self._made[name]

    def find_obstacle(self, saved: Engine | None) -> str | None:
        """Return why none of them can load what an engine has saved, and what to do; None when one can.

        Args:
            saved: what saved it; None where the state does not say: then the server's own is to try.
        """
        if (driver := self.find(saved)) is not None:
            return driver.engine.obstacle(saved)
        assert saved is not None, "it has its own"
        if problem := self._problems.get(saved.name):
            return f"it was saved by {saved}, which cannot be used here: {problem}"
        return self.own.engine.obstacle(saved)

    def find(self, saved: Engine | None) -> VmmDriver | None:
        """Return the engine of the name that state is of, whether it can load that or not; None where there is none.

        Args:
            saved: what saved it; None where the state does not say: it is the server's own.
        """
        return self.own if saved is None else self._made.get(saved.name)

    def get(self, saved: Engine | None) -> VmmDriver:
        """Return the same.

        Raises:
            VmmError: there is none; the message names the engine and says what to do.
        """
        if (driver := self.find(saved)) is None:
            raise VmmError(self.find_obstacle(saved) or f"there is no engine that runs what {saved} has saved")
        return driver

    async def close(self) -> None:
        """Stop what is being made."""
        await self._background.close()
