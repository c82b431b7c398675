"""Snapshots, forks and rollbacks of microVMs, running and suspended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import Image
from support.server import Server

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
    """Take a snapshot and return its version."""
    answer = clients.emberbox.snapshot_microvm(microvmIdentifier=microvm.id, **parameters)
    assert answer["state"] == "SUCCESSFUL"
    return str(answer["imageVersion"])


def restore(clients: Clients, microvm: Microvm, version: str) -> None:
    clients.emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=version)
    assert microvm.state() == "RUNNING"


def test_forks_go_on_from_the_instant_each_by_itself(probe: Microvm, fork: Fork) -> None:
    """Memory, processes and files come along; identity, endpoint, random numbers and disk are each microVM's own."""
    before = [probe.get() for _ in range(3)][-1]
    probe.shell("echo one > /data/file; sleep 4000 >/dev/null 2>&1 &")
    boot = probe.shell("cat /proc/sys/kernel/random/boot_id")
    forks = fork(probe, 2)
    family = [probe, *forks]
    assert [microvm.get()["count"] for microvm in family] == [4, 4, 4]
    assert {microvm.get()["pid"] for microvm in family} == {before["pid"]}
    assert {microvm.shell("cat /proc/sys/kernel/random/boot_id") for microvm in family} == {boot}
    assert all("sleep" in microvm.shell("cat /proc/[0-9]*/comm") for microvm in family)
    assert [microvm.get()["hostname"] for microvm in family] == [microvm.id for microvm in family]
    identities = [microvm.shell(IDENTITY).split() for microvm in family]
    assert all(len(set(column)) == 3 for column in zip(*identities, strict=True))
    for number, microvm in enumerate(family):
        microvm.shell(f"echo {number} >> /data/file; sync")
    assert [microvm.shell("cat /data/file").split() for microvm in family] == [["one", str(n)] for n in range(3)]
    assert [microvm.shell("cat /data/hooks").split()[-1] for microvm in family] == ["run", "run", "run"]
    assert [microvm.shell("grep -c run /data/hooks").strip() for microvm in family] == ["1", "2", "2"]


def test_a_fork_needs_nothing_of_its_source(probe: Microvm, fork: Fork, server: Server) -> None:
    """The source was suspended before, is suspended after and ends; forks suspend, resume and fork on."""
    probe.get()
    probe.suspend()
    probe.resume()
    probe.get()
    (child,) = fork(probe)
    for _ in range(2):
        probe.get()
    probe.suspend()
    probe.terminate()
    probe.wait_ended()
    assert child.get()["count"] == 3
    child.suspend()
    child.resume()
    (grandchild,) = fork(child)
    assert [microvm.get()["count"] for microvm in (child, grandchild)] == [4, 4]
    child.terminate()
    child.wait_ended()
    grandchild.suspend()
    grandchild.resume()
    assert grandchild.get()["count"] == 5
    assert not server.microvm_directory(probe.id).exists()


def test_a_suspended_microvm_is_forked_without_being_started(probe: Microvm, fork: Fork, clients: Clients) -> None:
    probe.get()
    probe.suspend()
    fork_answer = clients.emberbox.fork_microvm
    (child,) = fork(probe)
    assert probe.state() == "SUSPENDED"
    assert child.get()["count"] == 2
    probe.resume()
    assert probe.get()["count"] == 2
    with pytest.raises(ClientError, match="count"):
        fork_answer(microvmIdentifier=probe.id, count=101)


def test_a_snapshot_is_an_image_version_that_launches_go_on_from(
    probe: Microvm, launch: Launch, clients: Clients, probe_image: Image
) -> None:
    probe.get()
    version = snapshot(clients, probe, status="INACTIVE")
    try:
        with pytest.raises(ClientError, match="No active version"):
            launch(probe_image, imageVersion=version)
        names = {"imageIdentifier": probe_image.arn, "imageVersion": version}
        assert clients.microvms.update_microvm_image_version(**names, status="ACTIVE")["state"] == "SUCCESSFUL"
        later = launch(probe_image, imageVersion=version, runHookPayload="hello")
        assert later.get()["count"] == 2
        assert later.shell("cat /data/run").endswith("hello")
        assert later.shell("cat /proc/sys/kernel/hostname").strip() == later.id
        later.terminate()
        later.wait_ended()
    finally:
        clients.microvms.delete_microvm_image_version(imageIdentifier=probe_image.arn, imageVersion=version)


def test_a_microvm_goes_back_to_its_own_snapshots_and_to_no_other(
    probe: Microvm, launch: Launch, clients: Clients, probe_image: Image
) -> None:
    """Twice back to one checkpoint, from running and from suspended; id, host name and endpoint stay."""
    probe.shell("echo good > /data/file; sync")
    probe.get()
    version = snapshot(clients, probe, status="INACTIVE")
    try:
        for suspended in (False, True):
            assert probe.get()["count"] == 2
            probe.shell("echo bad > /data/file; sync")
            if suspended:
                probe.suspend()
            restore(clients, probe, version)
            assert probe.shell("cat /data/file").strip() == "good"
        assert probe.get() | {"pid": 0} == {"count": 2, "hostname": probe.id, "pid": 0, "port": 8080}
        probe.suspend()
        probe.resume()
        assert probe.get()["count"] == 3
        other = launch(probe_image, imageVersion="1.0")
        with pytest.raises(ClientError, match=f"imageVersion {version} was not made from the MicroVM {other.id}"):
            restore(clients, other, version)
        probe.terminate()
        probe.wait_ended()
        with pytest.raises(ClientError, match="has been terminated"):
            restore(clients, probe, version)
    finally:
        for microvm in (probe, other):
            microvm.terminate()
            microvm.wait_ended()
        clients.microvms.delete_microvm_image_version(imageIdentifier=probe_image.arn, imageVersion=version)
