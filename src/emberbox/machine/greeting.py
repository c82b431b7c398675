"""Finding the agent of a guest that was started, or taken over from an earlier server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from emberbox.guest.agent import Agent
from emberbox.guest.output import OutputListener
from emberbox.guest.protocol import Identity
from emberbox.machine.running import wait_stalled
from emberbox.model.errors import GuestError, VmmError
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Capabilities, Vm

ADOPT_TIMEOUT_S = limit_s(60.0)
"""Longer: servers start on busy machines, and a guest that does not answer in time is ended."""

END_TIMEOUT_S = limit_s(1.0)


async def connect_agent(vm: Vm, on_output: OutputListener, timeout_s: float) -> Agent:
    """Connect to a guest's agent; where its VMM has ended meanwhile, say that, and its last words.

    Raises:
        VmmError: the VMM has ended.
        GuestError: the agent did not answer.
    """
    try:
        return await Agent.connect(await vm.dial_agent(), on_output, timeout_s)
    except GuestError as error:
        try:
            async with asyncio.timeout(END_TIMEOUT_S):  # its socket closes just before it is gone
                words = await vm.wait_exited()
        except TimeoutError:
            raise error from None
        raise VmmError(f"the VMM ended before the guest's agent answered: {words}") from error


async def greet_adopted(
    vm: Vm, capabilities: Capabilities, on_output: OutputListener, make_identity: Callable[[], Identity]
) -> Agent | None:
    """Let an adopted guest run and its application too; None when its VMM stops it, as the disk is full.

    Args:
        vm: the guest's.
        capabilities: its engine's.
        on_output: gets what the application writes.
        make_identity: returns what the guest is told; called when its agent has answered.

    Raises:
        GuestError, VmmError: it does not answer.
    """

    async def greet() -> Agent:
        agent = await connect_agent(vm, on_output, ADOPT_TIMEOUT_S)
        try:
            await agent.thaw(make_identity())
        except BaseException:
            await agent.close()
            raise
        return agent

    await vm.unpause()
    return await _unless_stalled(greet(), wait_stalled(vm, capabilities))


async def _unless_stalled(greet: Awaitable[Agent], stalls: Awaitable[None]) -> Agent | None:
    greeting, stall = asyncio.ensure_future(greet), asyncio.ensure_future(stalls)
    try:
        await asyncio.wait((greeting, stall), return_when=asyncio.FIRST_COMPLETED)
        return await greeting if greeting.done() else None
    finally:
        for task in (greeting, stall):
            task.cancel()
        await asyncio.gather(greeting, stall, return_exceptions=True)
