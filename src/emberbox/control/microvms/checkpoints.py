"""Checkpoints of a microVM: taking one, and going back to one."""

from __future__ import annotations

from dataclasses import replace

from emberbox.control.microvms.life import Life
from emberbox.control.microvms.resume import resume
from emberbox.model.errors import ConflictError
from emberbox.model.states import MicrovmState


async def take(life: Life, name: str) -> float:
    """Take its state at one instant, running or suspended; it goes on as it was.

    Returns:
        how many seconds the application stood still.

    Raises:
        ConflictError: it neither runs nor is suspended.
        GuestError, VmmError, HostError, OSError: it could not be taken.
    """
    if (life.run is not None) is not (life.row.known is MicrovmState.RUNNING):
        raise ConflictError(f"The MicroVM {life.id} is in state {life.row.known}; wait until it has settled.")
    return await life.context.checkpoints.take(life.plan(), name)


async def roll_back(life: Life, version: str) -> None:
    """Make it what it was at a checkpoint of its own, and run it from there; what came after is lost.

    Raises:
        ConflictError: it is being terminated.
        VmmError: the snapshot is of another engine; it is as it was.
        HostError, OSError: the files could not be made; it is as it was.
        InternalError: it could not be started; it is suspended, as it was at the checkpoint.
    """
    checkpoints = life.context.checkpoints
    await checkpoints.prepare_rollback(life.id, life.version.image_id, version)
    if life.run is not None:
        if not life.row.begin(MicrovmState.SUSPENDING):
            await life.machine.settle(life.id)
            raise ConflictError(f"The MicroVM {life.id} is being terminated.")
        life.context.revoke(life.id)
        life.run = None
    await checkpoints.roll_back(life.id)
    life.microvm = replace(life.microvm, own_base=True)
    life.become_suspended()
    await resume(life)
