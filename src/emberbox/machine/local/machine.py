"""The life of microVMs on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import uuid
from collections.abc import Mapping
from typing import Any, Final

from emberbox.background import in_thread
from emberbox.guest.agent import fresh_identity
from emberbox.guest.protocol import Command, Identity
from emberbox.guest.streams import GuestCommand
from emberbox.host.space import is_full_disk
from emberbox.machine import checkpoint
from emberbox.machine.base import (
    AgentLost,
    End,
    Exited,
    Facts,
    Keeper,
    Left,
    NoRoomError,
    Plan,
    Started,
    SuspendFigures,
    VmmEnded,
)
from emberbox.machine.guest import Guest
from emberbox.machine.guests import GuestHost
from emberbox.machine.hooks import call_hook
from emberbox.machine.local.places import Held, Places
from emberbox.machine.pool import Pooled, WarmPool
from emberbox.machine.snapshot import is_suspended, load_suspended
from emberbox.machine.survivors import Survivor
from emberbox.machine.usage import measure_suspended
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import GuestError, HostError, VmmError
from emberbox.model.hooks import HookFailedError
from emberbox.model.usage import Usage
from emberbox.time_limits import limit_s

log = logging.getLogger(__name__)

GOES_ON_WITHIN_S: Final = limit_s(1.0)
EXPLAINED_WITHIN_S: Final = limit_s(1.0)


class LocalMachine:
    """This machine, as `base.Machine`.

    Args:
        guests: starts guests.
        pool: microVMs that are prepared.
        places: where each microVM is.
        survivors: the VMMs that an earlier server left, by the microVM's id.
    """

    def __init__(self, guests: GuestHost, pool: WarmPool, places: Places, survivors: Mapping[str, Survivor]) -> None:
        self._guests = guests
        self._pool = pool
        self._places = places
        self._survivors = dict(survivors)
        self._prepared: dict[str, Pooled] = {}

    # --- start

    def take_prepared(self, image_id: str, version: str) -> str | None:
        """See `base.Machine`."""
        pooled = self._pool.take(image_id, version)
        if pooled is None:
            return None
        self._prepared[pooled.microvm_id] = pooled
        return pooled.microvm_id

    async def launch(self, plan: Plan, keeper: Keeper) -> Started:
        """See `base.Machine`."""
        held = self._places.check("launch", plan.microvm_id)
        self._pool.postpone()
        held.begin(plan, keeper)
        guest = await self._begin_prepared(plan, held)
        if guest is None:
            snapshot = self._places.base(plan)
            held.directory.mkdir(parents=True, exist_ok=True)  # a fork's holds its base already
            guest = await self._guests.launch(snapshot, held.directory, _new_identity(plan), held.listener, plan.egress)
        held.hold(guest)
        return _started(held)

    async def _begin_prepared(self, plan: Plan, held: Held) -> Guest | None:
        pooled = self._prepared.pop(plan.microvm_id, None)
        if pooled is None:
            return None
        try:
            await pooled.guest.begin(_new_identity(plan), held.listener, plan.egress)
        except (GuestError, VmmError) as error:
            log.warning("%s is started anew, its prepared VMM failed: %s", plan.microvm_id, error)
            await in_thread(shutil.rmtree, held.directory, ignore_errors=True)
            return None
        return pooled.guest

    async def resume(self, plan: Plan, keeper: Keeper) -> Started:
        """See `base.Machine`."""
        held = self._places.check("resume", plan.microvm_id)
        self._pool.postpone()
        held.begin(plan, keeper)
        state = load_suspended(held.directory)
        held.hold(await self._guests.resume(self._places.base(plan), state, held.listener, plan.egress))
        return _started(held)

    async def take_over(self, plan: Plan, keeper: Keeper, *, resumes: bool) -> Started | None:
        """See `base.Machine`."""
        held = self._places.check("take_over", plan.microvm_id)
        survivor = self._survivors.pop(plan.microvm_id, None)
        if survivor is None:
            raise VmmError("its VMM does not run")
        held.begin(plan, keeper)
        guest = await self._guests.adopt(
            self._places.base(plan), held.directory, survivor, held.listener, keeper.wait_for_room, resumes=resumes
        )
        if guest is None:
            return None
        held.hold(guest)
        return _started(held)

    # --- while it runs

    async def call_hook(self, microvm_id: str, name: str, payload: Mapping[str, str] | None = None) -> None:
        """See `base.Machine`."""
        guest, hook = self._places.guest("call_hook", microvm_id), self._places.hold(microvm_id).hooks.get(name)
        if hook is None:
            return
        try:
            await call_hook(guest.agent, hook, None if payload is None else dict(payload))
        except HookFailedError:
            if name != "suspend" or not await _stands_still(guest):  # else it could not be called
                raise

    async def restrict(self, microvm_id: str, egress: EgressPolicy) -> None:
        """See `base.Machine`."""
        await self._places.guest("restrict", microvm_id).restrict(egress)

    async def wait_end(self, microvm_id: str) -> End:
        """See `base.Machine`. What ends first may only follow from what has ended: that is waited for a moment."""
        guest = self._places.guest("wait_end", microvm_id)
        vmm = asyncio.create_task(guest.wait_exited())
        try:
            while True:
                ends: list[asyncio.Future[Any]] = [vmm, guest.agent.exited, guest.lost]  # Any: of different types
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if guest.agent.exited.done():
                    return Exited(guest.agent.exited.result())
                if await _ends_soon(vmm):  # and that is why the agent is lost
                    return VmmEnded(vmm.result())
                if not await _stands_still(guest):
                    return AgentLost(str(guest.lost.result()))
                await asyncio.sleep(GOES_ON_WITHIN_S)  # then no agent answers, and none is lost
        finally:
            vmm.cancel()

    async def wait_stalled(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        await self._places.guest("wait_stalled", microvm_id).wait_stalled()

    async def go_on(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        guest = self._places.guest("go_on", microvm_id)
        if await guest.is_stalled():
            await guest.go_on()

    async def reconnect(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        guest, held = self._places.guest("reconnect", microvm_id), self._places.hold(microvm_id)
        await guest.reconnect(held.listener)
        held.serve()

    async def reach(self, microvm_id: str, port: int, *, anew: bool) -> tuple[str, int]:
        """See `base.Machine`."""
        guest = self._places.guest("reach", microvm_id)
        if anew:
            guest.ports.doubt(port)
        return await guest.reach(port)

    async def open_command(self, microvm_id: str, command: Command) -> GuestCommand:
        """See `base.Machine`."""
        return await self._places.guest("open_command", microvm_id).agent.open_command(command)

    async def has_undelivered(self, microvm_id: str) -> bool:
        """See `base.Machine`."""
        return self._guests.has_undelivered(microvm_id)

    def measure(self, microvm_id: str) -> Usage:
        """See `base.Machine`."""
        guest = self._places.find_guest(microvm_id)
        return measure_suspended(self._places.directory(microvm_id)) if guest is None else guest.measure()

    # --- end

    async def suspend(self, microvm_id: str) -> SuspendFigures:
        """See `base.Machine`."""
        guest, held = self._places.guest("suspend", microvm_id), self._places.hold(microvm_id)
        try:
            figures = await guest.suspend()
        except (GuestError, VmmError, HostError, OSError) as error:
            if is_full_disk(error) and not is_suspended(held.directory):
                raise NoRoomError(str(error)) from error
            raise
        held.guest = None
        return figures

    async def end(self, microvm_id: str, left: Left) -> None:
        """See `base.Machine`. What there is, is freed in the opposite order, each whatever becomes of the others."""
        held, pooled = self._places.hold(microvm_id), self._prepared.pop(microvm_id, None)
        guest, held.guest = held.guest, None
        if left is Left.ALL and guest is not None:
            await guest.leave()
            guest = None
        async with contextlib.AsyncExitStack() as freed:
            if left is Left.NOTHING:
                freed.callback(self._places.forget, microvm_id)
                freed.push_async_callback(in_thread, checkpoint.remove_microvm, held.directory)
                if held.output is not None:
                    freed.callback(held.output.finish)
            if pooled is not None:
                freed.push_async_callback(self._pool.end, pooled)
            if left is not Left.FILES:
                freed.push_async_callback(self._guests.let_go, microvm_id)
            if guest is not None:
                freed.push_async_callback(guest.end)

    def look(self, microvm_id: str) -> Facts:
        """See `base.Machine`."""
        directory, runs = self._places.directory(microvm_id), self._places.find_guest(microvm_id) is not None
        if not is_suspended(directory):
            return Facts(is_saved=False, runs=runs)
        try:
            self._guests.check_engine(load_suspended(directory).engine)
        except (HostError, VmmError) as error:
            return Facts(is_saved=True, runs=runs, problem=str(error))
        return Facts(is_saved=True, runs=runs)

    async def settle(self, microvm_id: str) -> None:
        """See `base.Machine`."""
        directory, runs = self._places.directory(microvm_id), self._places.find_guest(microvm_id) is not None
        try:
            await in_thread(checkpoint.settle_rollback, directory, runs=runs)
        except OSError as error:
            log.error("a rollback of %s could not be settled: %s", microvm_id, error)


def _new_identity(plan: Plan) -> Identity:
    return fresh_identity(plan.microvm_id, uuid.uuid4().hex)


def _started(held: Held) -> Started:
    assert held.guest is not None
    return Started(held.guest.ports.known())


async def _ends_soon(end: asyncio.Future[Any]) -> bool:  # Any: what it returns is not looked at
    """Wait a moment for an end that explains another."""
    await asyncio.wait([end], timeout=EXPLAINED_WITHIN_S)
    return end.done()


async def _stands_still(guest: Guest) -> bool:
    with contextlib.suppress(VmmError):
        return await guest.is_stalled()
    return False
