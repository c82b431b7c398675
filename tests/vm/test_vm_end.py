"""The end of a microVM: by the caller, by its application, by its VMM; each frees everything."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest

from support import host
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

Launch = Callable[..., Microvm]


def test_termination_frees_everything(microvm: Microvm, server: Server) -> None:
    """Process, files, network slot and gateway route are gone; the row says TERMINATED and `Success.`."""
    pid = microvm.vmm_pid
    microvm.get()
    slot = host.find_slot(server.instance, server.microvm_directory(microvm.id))
    assert slot is not None or server.instance is None
    microvm.terminate()
    assert microvm.wait_ended() == "Success."
    assert not host.is_running(pid)
    assert not server.microvm_directory(microvm.id).exists()
    assert not any(microvm.id in line for line in host.processes_of(server.home))
    assert slot not in host.slots(server.instance)
    assert slot is None or not (host.NETNS_DIRECTORY / slot.namespace).exists()
    answer = microvm.request()
    assert (answer.status_code, answer.text) == (502, "")


def test_termination_is_idempotent_and_the_end_final(microvm: Microvm) -> None:
    """TerminateMicrovm may be repeated; suspend and resume are refused with AWS's text."""
    microvm.terminate()
    microvm.wait_ended()
    microvm.terminate()
    text = f"The MicroVM {microvm.id} has been terminated and its state cannot be changed."
    for action in (microvm.suspend, microvm.resume):
        with pytest.raises(microvm.api.exceptions.ValidationException) as caught:
            action()
        assert caught.value.response["Error"]["Message"] == text


def test_a_microvm_can_be_terminated_while_it_is_launched(launch: Launch, probe_image: Image, server: Server) -> None:
    """TerminateMicrovm right after RunMicrovm wins, whatever the launch has reached."""
    microvm = launch(probe_image, wait=False)
    microvm.terminate()
    assert microvm.wait_ended() == "Success."
    assert not server.microvm_directory(microvm.id).exists()


@pytest.mark.parametrize("code", [0, 3])
def test_the_end_of_the_application_ends_the_microvm(microvm: Microvm, server: Server, code: int) -> None:
    """When the main process exits the microVM is TERMINATED with AWS's reason."""
    assert microvm.request("POST", f"/exit?code={code}").status_code == 200
    assert microvm.wait_ended() == f"Container Stopped with Exit Code: {code}"
    assert not server.microvm_directory(microvm.id).exists()


def test_the_death_of_the_vmm_ends_the_microvm(microvm: Microvm, server: Server) -> None:
    """A VMM that is killed is noticed; the reason says how it ended, and nothing is left."""
    os.kill(microvm.vmm_pid, signal.SIGKILL)
    assert "SIGKILL" in microvm.wait_ended()
    assert not server.microvm_directory(microvm.id).exists()


def test_a_vmm_that_dies_during_a_suspend_ends_the_microvm(microvm: Microvm) -> None:
    """A suspend of a microVM whose VMM is gone is refused or ends it; it never stays SUSPENDING."""
    os.kill(microvm.vmm_pid, signal.SIGKILL)
    refusals = microvm.api.exceptions
    with contextlib.suppress(
        refusals.InternalServerException, refusals.ValidationException, refusals.ConflictException
    ):
        microvm.suspend()
    assert microvm.wait_ended(30)


def test_a_guest_that_does_not_answer_is_not_suspended_and_runs_on(microvm: Microvm) -> None:
    """A suspend is refused while the VMM hangs, and has no effect when it comes round; hanging, it can be ended."""
    count = microvm.get()["count"]
    host.signal_vmm(microvm.vmm_pid, signal.SIGSTOP)
    with pytest.raises(microvm.api.exceptions.InternalServerException, match="is still running"):
        microvm.suspend()
    assert microvm.state() == "RUNNING"
    host.signal_vmm(microvm.vmm_pid, signal.SIGCONT)
    assert microvm.get()["count"] == count + 1
    microvm.suspend()
    microvm.resume()
    assert microvm.get()["count"] == count + 2
    host.signal_vmm(microvm.vmm_pid, signal.SIGSTOP)
    microvm.terminate()
    assert microvm.wait_ended() == "Success."


def test_a_microvm_ends_at_its_maximum_duration(launch: Launch, probe_image: Image) -> None:
    """The time maximumDurationInSeconds is counted from the launch and ends it with AWS's reason."""
    microvm = launch(probe_image, wait=False, maximumDurationInSeconds=3)
    assert microvm.wait_ended(60) == "MicroVM exceeded maximum lifetime"


def test_a_deleted_image_needs_no_running_microvms(
    launch: Launch, raw_image: Callable[..., Image], microvm: Microvm
) -> None:
    """An image in use is not deleted, with AWS's text, and its microVM keeps answering."""
    image = microvm.describe()["imageArn"]
    for _ in range(2):
        with pytest.raises(microvm.api.exceptions.ValidationException) as caught:
            microvm.api.delete_microvm_image(imageIdentifier=image)
        assert caught.value.response["Error"]["Message"] == "Cannot delete microvm image with running microvms."
        assert microvm.get()["hostname"] == microvm.id
        microvm.suspend()  # a suspended one counts, too
        microvm.api.resume_microvm(microvmIdentifier=microvm.id)
    assert microvm.api.get_microvm_image(imageIdentifier=image)["state"] == "CREATED"


def test_many_microvms_end_together(launch: Launch, probe_image: Image, server: Server) -> None:
    """Four microVMs terminated at once leave no process, directory or namespace."""
    microvms = [launch(probe_image, wait=False) for _ in range(4)]
    for microvm in microvms:
        microvm.wait_state("RUNNING")
    pids = [microvm.vmm_pid for microvm in microvms]
    for microvm in microvms:
        microvm.terminate()
    assert [microvm.wait_ended() for microvm in microvms] == ["Success."] * 4
    assert not any(host.is_running(pid) for pid in pids)
    wait_for("their directories are gone", lambda: not any(server.microvm_directory(m.id).exists() for m in microvms))
