"""What an endpoint leads to, with an owner of the microVM in name only."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from emberbox.control.microvms.endpoint import EndpointDirectory, MicrovmEndpoint
from emberbox.control.microvms.runners import Runners
from emberbox.guest.protocol import Command
from emberbox.model.causes import Actor, present_cause
from emberbox.model.endpoints import EndpointLimits, Unreachable, Upstream
from emberbox.model.errors import ConflictError, EmberboxError, GuestError, InternalError
from emberbox.model.launch_requests import Ingress
from emberbox.model.records import ImageVersion, Microvm
from support.control_plane import ControlPlane

PER_VCPU = EndpointLimits(connections=8, requests_per_s=10)
COMMAND = Command()


@dataclass
class StandInRunner:
    """Answers with what it has; an error is raised."""

    microvm: Microvm
    version: ImageVersion
    answer: Any = None
    seen: list[Any] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.microvm.id

    def _take(self, *what: Any) -> Any:
        self.seen.append((*what, present_cause().actor))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def requests(self) -> StandInRunner:
        return self

    async def reach(self, port: int) -> Any:
        answer = self._take("reach", port)
        return Upstream(*answer, {8443: True}.get(port)) if isinstance(answer, tuple) else answer

    async def wake(self) -> Any:
        return self._take("wake")

    async def open_command(self, command: Command) -> Any:
        return self._take("open", command)

    def doubt(self, port: int) -> None:
        self.seen.append(port)

    def note_bytes(self, *, from_client: bool) -> None:
        self.seen.append(from_client)


Add = Callable[..., StandInRunner]


@pytest.fixture
def runners() -> Runners:
    return Runners()


@pytest.fixture
def directory(plane: ControlPlane, runners: Runners) -> EndpointDirectory:
    return EndpointDirectory(runners=runners, store=plane.microvms, limits_per_vcpu=PER_VCPU)


@pytest.fixture
def add(plane: ControlPlane, runners: Runners) -> Add:
    image = plane.add_image("web")
    version = plane.images.find_version(image.id, "1.0")
    assert version is not None

    def add(*ingress: Ingress, answer: Any = None) -> StandInRunner:
        microvm = plane.add_microvm(image)
        microvm = replace(microvm, request=replace(microvm.request, ingress=ingress or (Ingress.HTTP, Ingress.SHELL)))
        runner = StandInRunner(microvm, version, answer)
        runners.add(runner)  # type: ignore[arg-type]
        return runner

    return add


def found(directory: EndpointDirectory, runner: StandInRunner) -> MicrovmEndpoint:
    endpoint = directory.find(runner.id)
    assert endpoint is not None
    return endpoint


def test_a_microvm_is_found_by_its_id_and_by_its_label(directory: EndpointDirectory, add: Add) -> None:
    one, other = add(), add()
    for runner in (one, other):
        assert directory.find_by_label(runner.microvm.endpoint_label) == directory.find(runner.id)
        assert found(directory, runner).microvm_id == runner.id
    assert directory.find(one.microvm.endpoint_label) is directory.find_by_label(one.id) is None
    assert directory.find("microvm-x") is directory.find_by_label(str(uuid.uuid4())) is None


async def test_one_that_has_ended_keeps_its_name_and_leads_nowhere(
    directory: EndpointDirectory, runners: Runners, add: Add
) -> None:
    runner = add()
    runners.forget(runner.id)
    assert directory.find(runner.id) is None
    endpoint = directory.find_by_label(runner.microvm.endpoint_label)
    assert endpoint is not None
    assert (endpoint.microvm_id, endpoint.limits()) == (runner.id, EndpointLimits())
    endpoint.doubt(80)
    endpoint.note_bytes(from_client=True)
    for asking in (endpoint.connect(80), endpoint.wake(), endpoint.open_command(COMMAND)):
        with pytest.raises(Unreachable, match="has ended"):
            await asking
    assert runner.seen == []


def test_a_larger_microvm_takes_more(directory: EndpointDirectory, add: Add) -> None:
    runner = add()
    assert found(directory, runner).limits() == PER_VCPU
    runner.version = replace(runner.version, request=replace(runner.version.request, memory_mib=2048))
    assert found(directory, runner).limits() == EndpointLimits(32, 40)


async def test_a_port_is_reached_because_of_a_request(directory: EndpointDirectory, add: Add) -> None:
    runner = add(answer=("127.0.0.1", 5, "vm.1"))
    endpoint = found(directory, runner)
    assert await endpoint.connect(8443) == Upstream("127.0.0.1", 5, "vm.1", spoke_tls=True)
    assert await endpoint.connect(80) == Upstream("127.0.0.1", 5, "vm.1", spoke_tls=None)
    assert runner.seen == [("reach", 8443, Actor.REQUEST), ("reach", 80, Actor.REQUEST)]


@pytest.mark.parametrize(
    ("ingress", "application", "shell"),
    [
        (Ingress.HTTP, None, "was run without SHELL_INGRESS"),
        (Ingress.ALL, None, "was run without SHELL_INGRESS"),
        (Ingress.SHELL, "was run without HTTP_INGRESS", None),
        (Ingress.NONE, "was run without HTTP_INGRESS", "was run without SHELL_INGRESS"),
    ],
)
async def test_only_what_its_connectors_let_in_gets_to_it(
    directory: EndpointDirectory, add: Add, ingress: Ingress, application: str | None, shell: str | None
) -> None:
    runner = add(ingress)
    endpoint = found(directory, runner)
    for asking, refusal in (
        (endpoint.connect(80), application),
        (endpoint.wake(), shell),
        (endpoint.open_command(COMMAND), shell),
    ):
        with pytest.raises(Unreachable, match=f"^{runner.id} {refusal or 'does not run'}$"):
            await asking
    assert len(runner.seen) == (application is None) + 2 * (shell is None)


@pytest.mark.parametrize("error", [InternalError("it is full"), ConflictError("it is full")])
async def test_what_keeps_a_microvm_from_running_is_told(
    directory: EndpointDirectory, add: Add, error: EmberboxError
) -> None:
    endpoint = found(directory, add(answer=error))
    for asking in (endpoint.connect(80), endpoint.wake(), endpoint.open_command(COMMAND)):
        with pytest.raises(Unreachable, match="it is full"):
            await asking


async def test_a_command_that_cannot_be_started_is_no_microvm_that_does_not_run(
    directory: EndpointDirectory, add: Add
) -> None:
    endpoint = found(directory, add(answer=GuestError("64 run already")))
    with pytest.raises(GuestError, match="64 run already"):
        await endpoint.open_command(COMMAND)
    with pytest.raises(Unreachable, match="64 run already"):
        await endpoint.connect(80)


async def test_what_is_answered_and_noted_passes_as_it_is(directory: EndpointDirectory, add: Add) -> None:
    runner = add(answer="answer")
    endpoint = found(directory, runner)
    assert await endpoint.wake() == await endpoint.open_command(COMMAND) == "answer"
    runner.seen.clear()
    endpoint.doubt(80)
    endpoint.note_bytes(from_client=True)
    endpoint.note_bytes(from_client=False)
    assert runner.seen == [80, True, False]
