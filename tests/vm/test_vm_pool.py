"""The warm pool: launches take what was prepared, and nothing prepared outlives its reason. Events of a launch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from emberbox.process.adoption import error_logs
from support.aws import Clients
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.both_engines]

Launch = Callable[..., Microvm]


def pooled(clients: Clients, image: Image, version: str = "1.0") -> list[dict[str, Any]]:
    """Return what is prepared of an image version."""
    found = clients.emberbox.describe_host()["pooledMicrovms"]
    return [row for row in found if (row["imageArn"], row["imageVersion"]) == (image.arn, version)]


def wait_pooled(clients: Clients, image: Image, version: str = "1.0") -> None:
    wait_for("a microVM is prepared", lambda: pooled(clients, image, version), 60)


def nobodys(server: Server, clients: Clients) -> set[str]:
    """Return the ids of microVMs that have a directory and no row."""
    rows = {row["microvmId"] for page in pages(clients) for row in page["items"]}
    return {path.name for path in (server.home / "microvms").iterdir()} - rows


def pages(clients: Clients) -> Any:
    return clients.microvms.get_paginator("list_microvms").paginate()


def test_a_launch_takes_the_prepared_microvm_and_makes_it_its_own(
    launch: Launch, probe_image: Image, clients: Clients, server: Server
) -> None:
    first = launch(probe_image)
    wait_pooled(clients, probe_image)
    prepared = nobodys(server, clients)
    (usage,) = pooled(clients, probe_image)
    assert usage["memoryInBytes"] > 0
    second = launch(probe_image, runHookPayload="mine")
    assert second.id in prepared
    assert second.get()["hostname"] == second.id
    assert '"runHookPayload": "mine"' in second.shell("cat /data/run")
    asked = time.time()
    told = int(second.shell("date +%s"))
    assert asked - 3 < told < time.time() + 3
    drawn = "od -An -tx1 -N16 /dev/urandom; cat /etc/machine-id"
    assert not set(first.shell(drawn).splitlines()) & set(second.shell(drawn).splitlines())
    second.suspend()
    second.resume()
    assert second.get()["hostname"] == second.id


def test_a_prepared_microvm_that_died_is_not_handed_out(
    launch: Launch, probe_image: Image, clients: Clients, server: Server
) -> None:
    launch(probe_image)
    wait_pooled(clients, probe_image)
    dead = nobodys(server, clients)
    for pid, path in error_logs():
        if any(path.startswith(f"{server.home.resolve()}/microvms/{name}/") for name in dead):
            os.kill(pid, signal.SIGKILL)
    wait_for("its files are gone", lambda: not dead & nobodys(server, clients), 60)
    assert launch(probe_image).id not in dead


def test_a_version_that_may_not_be_launched_is_not_kept_warm(
    launch: Launch, probe: Microvm, probe_image: Image, clients: Clients
) -> None:
    version = clients.emberbox.snapshot_microvm(microvmIdentifier=probe.id)["imageVersion"]
    names = {"imageIdentifier": probe_image.arn, "imageVersion": version}
    later = launch(probe_image, imageVersion=version)
    wait_pooled(clients, probe_image, version)
    clients.microvms.update_microvm_image_version(**names, status="INACTIVE")
    wait_for("nothing is prepared", lambda: not pooled(clients, probe_image, version), 30)
    later.terminate()
    later.wait_ended()
    clients.microvms.delete_microvm_image_version(**names)


def test_events_tell_a_microvms_whole_life(launch: Launch, probe_image: Image, clients: Clients) -> None:
    """Who set off each change, why, and how long it took; a request at the endpoint resumes."""
    policy = {"maxIdleDurationSeconds": 900, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
    microvm = launch(probe_image, idlePolicy=policy)
    microvm.suspend()
    microvm.get()
    microvm.terminate()
    microvm.wait_ended()
    events = clients.emberbox.list_events(microvmIdentifier=microvm.id)["items"]
    told = [(event.get("fromState"), event["state"], event["actor"], event["reason"]) for event in events]
    assert told == [
        (None, "PENDING", "CALLER", "RunMicrovm"),
        ("PENDING", "RUNNING", "CALLER", "RunMicrovm"),
        ("RUNNING", "SUSPENDING", "CALLER", "SuspendMicrovm"),
        ("SUSPENDING", "SUSPENDED", "CALLER", "SuspendMicrovm"),
        ("SUSPENDED", "RUNNING", "REQUEST", "A request to port 8080."),
        ("RUNNING", "TERMINATING", "CALLER", "Success."),
        ("TERMINATING", "TERMINATED", "CALLER", "Success."),
    ]
    assert all(events[index]["durationInMilliseconds"] > 0 for index in (1, 3, 4, 6))
    assert [event["eventId"] for event in events] == sorted(event["eventId"] for event in events)
