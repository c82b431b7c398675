"""Every machine has the whole of the wall, in the same words, and holds the same rules."""

from __future__ import annotations

import inspect

import pytest

from emberbox.machine import base, rules
from emberbox.machine.base import Keeper, Left, Plan
from emberbox.machine.local import LocalCheckpoints, LocalLeftovers, LocalMachine
from emberbox.model.errors import GuestError, HostError, VmmError
from support.plain_machine import Disk, FakeCheckpoints, FakeLeftovers, FakeMachine

WALLS = [
    (base.Machine, LocalMachine),
    (base.Machine, FakeMachine),
    (base.Checkpoints, LocalCheckpoints),
    (base.Checkpoints, FakeCheckpoints),
    (base.Leftovers, LocalLeftovers),
    (base.Leftovers, FakeLeftovers),
]
PLAN = Plan("microvm-1", "image", "1.0")


async def _room() -> bool:
    return True


KEEPER = Keeper(None, lambda: None, _room)


def calls(wall: type) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(wall, inspect.isfunction)
    return {name: inspect.signature(call) for name, call in found if not name.startswith("_")}


@pytest.mark.parametrize(("wall", "machine"), WALLS, ids=lambda found: found.__name__)
def test_a_machine_has_every_call_as_the_wall_has_it(wall: type, machine: type) -> None:
    theirs = calls(machine)
    for name, signature in calls(wall).items():
        assert theirs[name].parameters == signature.parameters, name
        is_async = inspect.iscoroutinefunction(getattr(wall, name))
        assert inspect.iscoroutinefunction(getattr(machine, name)) is is_async, name


def test_the_rules_name_every_call_about_one_microvm() -> None:
    about_one = {
        name
        for name, signature in (calls(base.Machine) | calls(base.Checkpoints)).items()
        if {"microvm_id", "plan"} & signature.parameters.keys()
    }
    assert about_one == rules.NEEDS_VMM.keys()


@pytest.mark.parametrize("call", [call for call, needed in rules.NEEDS_VMM.items() if needed is not None])
def test_a_rule_that_is_broken_is_an_error(call: str) -> None:
    needed = rules.NEEDS_VMM[call]
    assert needed is not None
    rules.check(call, "microvm-1", runs=needed)
    with pytest.raises(VmmError, match=r"microvm-1 (runs already|does not run)"):
        rules.check(call, "microvm-1", runs=not needed)


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine(Disk(images={("image", "1.0"): {"first": 1}}), prepared=["microvm-2"])


async def test_the_fake_one_keeps_what_a_microvm_has(machine: FakeMachine) -> None:
    await machine.launch(PLAN, KEEPER)
    machine.mine[PLAN.microvm_id].memory["noted"] = 9
    with pytest.raises(VmmError, match="runs already"):
        await machine.launch(PLAN, KEEPER)
    await machine.suspend(PLAN.microvm_id)
    assert machine.look(PLAN.microvm_id) == base.Facts(is_saved=True, runs=False)
    with pytest.raises(VmmError, match="does not run"):
        await machine.suspend(PLAN.microvm_id)
    await machine.resume(PLAN, KEEPER)
    assert machine.mine[PLAN.microvm_id].memory == {"first": 1, "noted": 9}
    assert machine.disk.images["image", "1.0"] == {"first": 1}
    await machine.end(PLAN.microvm_id, Left.NOTHING)
    assert machine.look(PLAN.microvm_id) == base.Facts(is_saved=False, runs=False)
    with pytest.raises(HostError, match="missing"):
        await machine.resume(PLAN, KEEPER)


async def test_the_fake_one_starts_a_fork_from_its_base_only(machine: FakeMachine) -> None:
    checkpoints, fork = FakeCheckpoints(machine), Plan("microvm-3", "image", "1.0", own_base=True)
    with pytest.raises(HostError, match="missing"):
        await machine.launch(fork, KEEPER)
    await machine.launch(PLAN, KEEPER)
    machine.mine[PLAN.microvm_id].memory["noted"] = 9
    await checkpoints.take(PLAN, "now")
    await checkpoints.publish("now")
    await checkpoints.give("now", [fork.microvm_id])
    await machine.launch(fork, KEEPER)
    assert machine.mine[fork.microvm_id].memory == {"first": 1, "noted": 9}


async def test_the_fake_one_goes_on_without_its_server(machine: FakeMachine) -> None:
    await machine.launch(PLAN, KEEPER)
    machine.disk.vmms[PLAN.microvm_id].stalled.set()
    next_one, answers = FakeMachine(machine.disk), [True, False]

    async def wait_for_room() -> bool:
        return answers.pop()

    keeper = Keeper(None, lambda: None, wait_for_room)
    assert await next_one.take_over(PLAN, keeper, resumes=False) is None
    assert await next_one.take_over(PLAN, keeper, resumes=False) is not None
    with pytest.raises(GuestError):
        await next_one.open_command(PLAN.microvm_id, base.Command())
    assert machine.take_prepared("image", "1.0") == "microvm-2"
    assert machine.take_prepared("image", "1.0") is None
