"""What is begun with each microVM of an earlier server, and with new ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.control.microvms import launcher as launcher_module
from emberbox.control.microvms.launcher import Launcher
from emberbox.control.microvms.recovery import Fate
from emberbox.control.microvms.runners import Runners
from emberbox.model.arns import new_microvm_id
from emberbox.model.errors import ConflictError
from emberbox.model.launch_requests import LaunchRequest, LogTarget
from emberbox.model.records import LogGroup, Microvm
from emberbox.model.states import MicrovmState
from emberbox.store.client_tokens import ClientToken
from support.control_plane import ControlPlane


@dataclass
class StandInRunner:
    """Takes note of what it is told."""

    context: Any
    microvm: Microvm
    version: Any
    group: LogGroup | None
    stream: str | None
    told: list[Any] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.microvm.id

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.told.append((name, *args))


@pytest.fixture
def runners() -> Runners:
    return Runners()


@pytest.fixture
def launcher(plane: ControlPlane, runners: Runners, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    monkeypatch.setattr(launcher_module, "MicrovmRunner", StandInRunner)
    return Launcher(runners=runners, context=SimpleNamespace(), store=plane.microvms, images=plane.images)  # type: ignore[arg-type]


LIVES = ("start_lifetime",)
FATES = {
    Fate.LAUNCH: [("begin_to_launch",), LIVES],
    Fate.ADOPT: [("begin_to_take_over",), LIVES],
    Fate.KEEP_SUSPENDED: [("keep_suspended",), LIVES],
    Fate.END: [("begin_to_finish", "because")],
    Fate.LOSE: [("begin_to_finish", "The MicroVM's VMM ended while no Emberbox server was running.")],
}


@pytest.mark.parametrize("fate", Fate)
async def test_each_fate_begins_what_it_says(
    plane: ControlPlane, launcher: Launcher, runners: Runners, fate: Fate
) -> None:
    microvm = plane.add_microvm(plane.add_image("web"), MicrovmState.TERMINATING, state_reason="because")
    ended = plane.add_microvm(plane.add_image("other"))
    recovery: Any = SimpleNamespace(fate=lambda _id: fate)
    launcher.recover(recovery)
    runner: Any = runners.find(microvm.id)
    assert runner.told == FATES[fate]
    assert runners.list_all() == [runner]
    assert runners.find(ended.id) is None


async def test_one_that_has_lost_its_image_has_no_owner(
    plane: ControlPlane, launcher: Launcher, runners: Runners
) -> None:
    plane.add_microvm(plane.add_image("web"), MicrovmState.SUSPENDED, image_version="7.0")
    launcher.recover(SimpleNamespace())  # type: ignore[arg-type]
    assert runners.list_all() == []


def test_a_used_token_launches_nothing(plane: ControlPlane, launcher: Launcher, runners: Runners) -> None:
    stored = plane.add_microvm(plane.add_image("web"))
    token = ClientToken(stored.account_id, "RunMicrovm", "one", "digest", stored.id)
    new = [replace(stored, id=new_microvm_id(), endpoint_label=str(number)) for number in range(2)]
    launcher.launch(new[:1], token)
    with pytest.raises(ConflictError):
        launcher.launch(new[1:], token)
    runner: Any = runners.find(new[0].id)
    assert runners.list_all() == [runner]
    assert runner.told == [LIVES, ("begin_to_launch",)]


@pytest.mark.parametrize(
    ("target", "group", "stream"),
    [
        (None, "/aws/lambda-microvms/web", None),
        (LogTarget(), "/aws/lambda-microvms/web", None),
        (LogTarget(stream="one"), "/aws/lambda-microvms/web", "one"),
        (LogTarget(group="/own", stream="one"), "/own", "one"),
        (LogTarget(is_on=False), None, None),
    ],
)
async def test_output_goes_where_it_was_asked_to_go(
    plane: ControlPlane, launcher: Launcher, runners: Runners, target: LogTarget | None, group: str | None,
    stream: str | None,
) -> None:  # fmt: skip
    request = LaunchRequest(plane.region, (), ("any",), log_target=target)
    microvm = plane.add_microvm(plane.add_image("web"), MicrovmState.SUSPENDED, request=request)
    launcher.recover(SimpleNamespace(fate=lambda _id: Fate.KEEP_SUSPENDED))  # type: ignore[arg-type]
    runner: Any = runners.find(microvm.id)
    assert (runner.group and runner.group.name, runner.stream) == (group, stream)
