"""Lifecycle hooks of microVMs, and the ports that the gateway reaches."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from support.aws import Clients
from support.guests import Microvm
from support.images import Image, ImageMaker

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
ADVICE = "Please check your hook endpoint and application logs for more details."


def test_run_gets_the_microvms_id_and_the_payload(launch: Launch, probe_image: Image) -> None:
    """The body of /run is JSON with the id and the payload, unchanged."""
    payload = 'quotes " and \\ and ünïcode, up to 4096'
    microvm = launch(probe_image, runHookPayload=payload)
    assert json.loads(microvm.shell("cat /data/run")) == {"microvmId": microvm.id, "runHookPayload": payload}


@pytest.mark.both_engines
def test_every_hook_is_called_once_per_transition(probe: Microvm) -> None:
    """/ready belongs to the snapshot, /validate to a trial microVM; then run, suspend and resume in turn."""
    probe.suspend()
    probe.resume()
    assert probe.shell("cat /data/hooks").split() == ["ready", "run", "suspend", "resume"]


def test_the_hooks_output_is_in_the_microvms_log(images: ImageMaker, probe: Microvm, probe_image: Image) -> None:
    """What the application prints in a hook can be read while the microVM runs."""
    lines = images.log(probe_image, f'hook run {{"microvmId": "{probe.id}"')
    assert "hook validate " in lines


def test_a_failing_run_hook_ends_the_microvm(launch: Launch, probe_image: Image) -> None:
    """/run answering 500 gives TERMINATED with AWS's reason, and RUNNING is never reached."""
    microvm = launch(probe_image, wait=False, runHookPayload="run=500")
    seen = set()
    while (described := microvm.describe())["state"] != "TERMINATED":
        seen.add(described["state"])
    assert seen <= {"PENDING", "TERMINATING"}
    assert described["stateReason"] == f"Run lifecycle hook returned HTTP status 500. {ADVICE}"


@pytest.mark.both_engines
def test_a_failing_suspend_hook_ends_the_microvm(launch: Launch, probe_image: Image) -> None:
    """/suspend answering 500 gives TERMINATED with AWS's reason."""
    microvm = launch(probe_image, runHookPayload="suspend=500")
    microvm.suspend()
    assert microvm.wait_ended() == f"Suspend lifecycle hook returned HTTP status 500. {ADVICE}"


def test_a_failing_suspend_hook_ends_nothing_where_the_images_tag_says_so(
    launch: Launch, probe_image: Image, clients: Clients
) -> None:
    """With the tag on its image, SuspendMicrovm is refused with the hook's status and the microVM runs on."""
    tag = {"emberbox:suspend-hook-failure": "keep-running"}
    microvm = launch(probe_image, runHookPayload="suspend=503")
    microvm.get()
    clients.microvms.tag_resource(Resource=probe_image.arn, Tags=tag)
    try:
        with pytest.raises(microvm.api.exceptions.ConflictException, match="returned HTTP status 503"):
            microvm.suspend()
    finally:
        clients.microvms.untag_resource(Resource=probe_image.arn, TagKeys=list(tag))
    assert microvm.state() == "RUNNING"
    assert microvm.get()["count"] == 2


def test_a_failing_terminate_hook_holds_nothing_up(launch: Launch, probe_image: Image, images: ImageMaker) -> None:
    """/terminate is called once, and whatever it answers the microVM is terminated with AWS's reason."""
    microvm = launch(probe_image, runHookPayload="terminate=500")
    microvm.terminate()
    assert microvm.wait_ended() == "Success."
    images.log(probe_image, "hook terminate ")


def test_a_failing_resume_hook_loses_nothing(launch: Launch, probe_image: Image) -> None:
    """/resume answering 500 is logged; the microVM runs on with all it had."""
    microvm = launch(probe_image, runHookPayload="resume=500")
    microvm.get()
    microvm.suspend()
    microvm.resume()
    assert microvm.state() == "RUNNING"
    assert microvm.get()["count"] == 2


def test_a_payload_needs_the_run_hook(launch: Launch, flask_image: Image) -> None:
    """A payload for an image without /run is refused with AWS's text."""
    with pytest.raises(Exception, match="The run hook must be enabled in the MicroVM image to pass") as caught:
        launch(flask_image, runHookPayload="x")
    assert caught.value.response["Error"]["Code"] == "ValidationException"  # type: ignore[attr-defined]


def test_another_port_is_reached_by_header(probe: Microvm) -> None:
    """X-aws-proxy-port chooses the guest's port."""
    assert probe.get(port=8080)["port"] == 8080
    assert probe.get(port=8081)["port"] == 8081


def test_a_port_bound_to_the_guests_loopback_is_reached(probe: Microvm) -> None:
    """A server that listens on 127.0.0.1 alone is reached like any other, as on AWS."""
    listening = probe.shell("cat /proc/net/tcp")
    assert f"0100007F:{8081:04X}" in listening
    assert probe.get(port=8081)["port"] == 8081


def test_a_closed_port_answers_502(probe: Microvm) -> None:
    """Nothing listens there: 502 with an empty body, and the microVM goes on."""
    answer = probe.request(port=4444)
    assert (answer.status_code, answer.text) == (502, "")
    assert probe.state() == "RUNNING"


def test_a_token_opens_only_its_ports_and_its_microvm(launch: Launch, probe: Microvm, probe_image: Image) -> None:
    """Refusals have the status and text of AWS's proxy."""
    narrow = probe.mint([{"port": 8080}])
    assert probe.request(token=narrow).status_code == 200
    refused = probe.request(token=narrow, port=8081)
    assert (refused.status_code, refused.text) == (403, "Access to port denied")
    stranger = launch(probe_image)
    refused = stranger.request(token=narrow)
    assert (refused.status_code, refused.text) == (403, "Token authentication failed")
    refused = probe.gateway.request("GET", probe.endpoint, "/", {}, "")
    assert (refused.status_code, refused.text) == (403, "Request missing authentication")


def test_a_token_works_on_the_gateways_bare_address(microvm: Microvm) -> None:
    """Without the endpoint's name in Host the token alone says which microVM is meant."""
    bare = microvm.gateway.server.endpoints["gateway"]
    answer = microvm.gateway.request("GET", bare, "/", {"X-aws-proxy-auth": microvm.mint()}, "")
    assert answer.json()["hostname"] == microvm.id
