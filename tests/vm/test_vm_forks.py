"""Snapshots, forks and rollbacks of microVMs, running and suspended."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
Fork = Callable[..., list[Microvm]]
IDENTITY = "cat /proc/sys/kernel/hostname /etc/machine-id; od -An -tx1 -N16 /dev/urandom"


@pytest.fixture
def fork(gateway: Gateway, clients: Clients) -> Iterator[Fork]:
    """Forks a microVM and waits until the forks run; terminates them at the end."""
    forked: list[Microvm] = []

    def run(source: Microvm, count: int = 1, **parameters: Any) -> list[Microvm]:
        answer = clients.emberbox.fork_microvm(microvmIdentifier=source.id, count=count, **parameters)
        forks = [Microvm(item["microvmId"], item["endpoint"], gateway) for item in answer["items"]]
        assert [item["state"] for item in answer["items"]] == ["PENDING"] * count
        forked.extend(forks)
        for microvm in forks:
            microvm.wait_state("RUNNING")
        return forks

    yield run
    for microvm in forked:
        microvm.terminate()
    for microvm in forked:
        microvm.wait_ended()


def snapshot(clients: Clients, microvm: Microvm, **parameters: Any) -> str:
    """Take a snapshot and return its version, once what an earlier test asked of the image has settled."""
    image = microvm.describe()["imageArn"]

    def has_settled() -> bool:
        shown = clients.microvms.get_microvm_image(imageIdentifier=image)
        return str(shown["state"]) in ("CREATED", "UPDATED")

    wait_for("the image has settled", has_settled)
    answer = clients.emberbox.snapshot_microvm(microvmIdentifier=microvm.id, **parameters)
    assert answer["state"] == "SUCCESSFUL"
    return str(answer["imageVersion"])


def restore(clients: Clients, microvm: Microvm, version: str) -> None:
    clients.emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=version)
    assert microvm.state() == "RUNNING"


def write(microvm: Microvm, text: str) -> None:
    """Leave a text in the guest's memory and on its disk, not synced."""
    microvm.shell(f"echo {text} > /dev/shm/memory; echo {text} > /data/disk")


def read(microvm: Microvm) -> list[str]:
    """Return what `write` left in memory and on the disk."""
    return microvm.shell("cat /dev/shm/memory /data/disk").split()


@pytest.mark.both_engines
def test_forks_go_on_from_the_instant_each_by_itself(probe: Microvm, fork: Fork) -> None:
    """Memory, processes and files come along; identity, endpoint, random numbers and disk are each microVM's own."""
    write(probe, "one")
    probe.shell("sleep 4000 >/dev/null 2>&1 &")
    before, boot = probe.get(), probe.shell("cat /proc/sys/kernel/random/boot_id")
    forks = fork(probe, 2)
    family = [probe, *forks]
    assert [read(microvm) for microvm in family] == [["one", "one"]] * 3
    assert {microvm.get()["pid"] for microvm in family} == {before["pid"]}
    assert {microvm.shell("cat /proc/sys/kernel/random/boot_id") for microvm in family} == {boot}
    assert all("sleep" in microvm.shell("cat /proc/[0-9]*/comm") for microvm in family)
    assert [microvm.get()["hostname"] for microvm in family] == [microvm.id for microvm in family]
    identities = [microvm.shell(IDENTITY).splitlines() for microvm in family]
    assert all(len(set(column)) == 3 for column in zip(*identities, strict=True))
    for number, microvm in enumerate(family):
        write(microvm, str(number))
    assert [read(microvm) for microvm in family] == [["0", "0"], ["1", "1"], ["2", "2"]]
    assert [microvm.shell("grep -c run /data/hooks").strip() for microvm in family] == ["1", "2", "2"]


def test_a_request_under_way_is_answered_by_the_source(
    probe: Microvm, fork: Fork, clients: Clients, probe_image: Image
) -> None:
    """Its connection stays open while it is forked; what the fork was doing for it goes on there, too."""
    begun = f"begun {probe.id}"
    command = f"echo early > /dev/shm/memory; echo {begun} > /proc/1/fd/1; sleep 6; echo late | tee /data/disk"
    group = f"/aws/lambda-microvms/{probe_image.name}"

    def has_begun() -> bool:
        found = clients.logs.filter_log_events(logGroupName=group, filterPattern=f'"{begun}"')["events"]
        return bool(found)

    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(probe.shell, command)
        wait_for("the request is under way", has_begun, 30)
        (child,) = fork(probe)
        assert answer.result(60).strip() == "late"
    assert read(probe) == read(child) == ["early", "late"]


def test_a_fork_needs_nothing_of_its_source(probe: Microvm, fork: Fork, server: Server) -> None:
    """The source was suspended before, is suspended after and ends; forks suspend, resume and fork on."""
    write(probe, "first")
    probe.suspend()
    probe.resume()
    probe.shell("echo second > /dev/shm/memory")
    (child,) = fork(probe)
    write(probe, "third")
    probe.suspend()
    probe.terminate()
    probe.wait_ended()
    assert not server.microvm_directory(probe.id).exists()
    assert read(child) == ["second", "first"]
    child.suspend()
    child.resume()
    write(child, "fourth")
    (grandchild,) = fork(child)
    child.terminate()
    child.wait_ended()
    grandchild.suspend()
    grandchild.resume()
    assert read(grandchild) == ["fourth", "fourth"]


def test_a_suspended_microvm_is_forked_without_being_started(probe: Microvm, fork: Fork, clients: Clients) -> None:
    write(probe, "asleep")
    probe.suspend()
    (child,) = fork(probe)
    assert probe.state() == "SUSPENDED"
    assert read(child) == ["asleep", "asleep"]
    write(child, "other")
    probe.resume()
    assert read(probe) == ["asleep", "asleep"]
    with pytest.raises(ClientError, match="count"):
        clients.emberbox.fork_microvm(microvmIdentifier=probe.id, count=101)


def test_a_snapshot_is_an_image_version_that_launches_go_on_from(
    probe: Microvm, launch: Launch, clients: Clients, probe_image: Image
) -> None:
    write(probe, "kept")
    version = snapshot(clients, probe, status="INACTIVE")
    names = {"imageIdentifier": probe_image.arn, "imageVersion": version}
    try:
        with pytest.raises(ClientError, match="No active version"):
            launch(probe_image, imageVersion=version)
        assert clients.microvms.update_microvm_image_version(**names, status="ACTIVE")["state"] == "SUCCESSFUL"
        later = launch(probe_image, imageVersion=version, runHookPayload="hello")
        assert read(later) == ["kept", "kept"]
        assert '"runHookPayload": "hello"' in later.shell("cat /data/run")
        assert later.get()["hostname"] == later.id
        later.terminate()
        later.wait_ended()
    finally:
        clients.microvms.update_microvm_image_version(**names, status="INACTIVE")
    clients.microvms.delete_microvm_image_version(**names)


@pytest.mark.both_engines
def test_a_microvm_goes_back_to_its_own_snapshots_and_to_no_other(
    probe: Microvm, launch: Launch, clients: Clients, probe_image: Image
) -> None:
    """Back to one checkpoint from running and from suspended; id, host name and endpoint stay."""
    write(probe, "good")
    version = snapshot(clients, probe, status="INACTIVE")
    for suspended in (False, True):
        write(probe, "bad")
        if suspended:
            probe.suspend()
        restore(clients, probe, version)
        assert read(probe) == ["good", "good"]
        assert probe.get()["hostname"] == probe.id
    write(probe, "better")
    probe.suspend()
    probe.resume()
    assert read(probe) == ["better", "better"]
    other = launch(probe_image, imageVersion="1.0")
    with pytest.raises(ClientError, match=f"imageVersion {version} was not made from the MicroVM {other.id}"):
        restore(clients, other, version)
    probe.terminate()
    probe.wait_ended()
    with pytest.raises(ClientError, match="has been terminated"):
        restore(clients, probe, version)


def test_the_command_line_snapshots_forks_restores_and_shows(
    probe: Microvm, gateway: Gateway, server: Server, clients: Clients, probe_image: Image
) -> None:
    def emberbox(*arguments: str) -> str:
        done = subprocess.run(server.command(*arguments), env=server.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    write(probe, "good")
    version = emberbox("snapshot", probe.id, "--inactive").split(" version ")[1].split()[0]
    write(probe, "bad")
    assert f"runs from {version}" in emberbox("restore", probe.id, "--to", version)
    assert read(probe) == ["good", "good"]
    child, endpoint = emberbox("fork", probe.id, "--count", "1").split()
    fork = Microvm(child, endpoint, gateway)
    try:
        assert read(fork) == ["good", "good"]
        rows = [line.split() for line in emberbox("ps").splitlines()]
        shown = {row[0]: (row[1], row[-2], row[-1]) for row in rows}
        assert shown[probe.id] == shown[child] == ("RUNNING", probe_image.name, "1.0")
        assert probe.id in emberbox("top", "--once")
        told = emberbox("events", probe.id)
        assert "SUSPENDED → RUNNING" in told
        assert "RestoreMicrovm" in told
    finally:
        fork.terminate()
        fork.wait_ended()
        clients.microvms.delete_microvm_image_version(imageIdentifier=probe_image.arn, imageVersion=version)
