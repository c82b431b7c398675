"""Attacks from inside a gVisor sandbox: root with every capability tries to get out, or to take the machine along.

After each attack the neighbour, another microVM of the same image, still answers through the gateway.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from emberbox.host.cgroups import find_places
from emberbox.host.network.slots import Slot, plan_slot
from emberbox.host.runsc.program import ensure_runsc
from emberbox.model.sizes import SIZES
from emberbox.settings import load
from emberbox.vmm.base import MachineShape
from emberbox.vmm.gvisor.choice import find_engine
from emberbox.vmm.gvisor.driver import GvisorDriver
from emberbox.vmm.gvisor.limits import PROCESSES_MAX, limits_of
from emberbox.vmm.gvisor.probe import probe_sandbox
from support import host
from support.aws import Clients
from support.guests import Gateway, Microvm
from support.images import SMALLEST, Image, ImageMaker, probe_files
from support.server import Server, make_home
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has gVisor as an engine"),
]

SIZE = SIZES[SMALLEST[0]["minimumMemoryInMiB"]]
MEMORY_MAX = limits_of(MachineShape(SIZE.vcpu_count, SIZE.mem_size_mib)).memory_bytes
BOMB = "perl -e 'for (;;) { defined(my $p = fork) or select(undef, undef, undef, 0.01) }' >/dev/null 2>&1 &"
MEMORY_HOG = "perl -e 'my @x; push @x, chr(65) x (64 << 20) while 1'"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """The gateway of a server whose engine is gVisor; when that stops, nothing of it may be left."""
    with Server(make_home(), engine="gvisor", warm_pool="0").running() as server:
        gateway = Gateway(server, Clients.of(server))
        yield gateway
        gateway.close()


@pytest.fixture(scope="module")
def image(gateway: Gateway) -> Image:
    """The probe application, with all rights in its own kernel."""
    maker = ImageMaker(gateway.clients, gateway.server.endpoints["region"])
    return maker.build("attacker", probe_files(), additionalOsCapabilities=["ALL"])


@pytest.fixture(scope="module")
def neighbour(gateway: Gateway, image: Image) -> Iterator[Microvm]:
    microvm = Microvm.launch(gateway, image)
    microvm.wait_state("RUNNING")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


@pytest.fixture
def attacker(gateway: Gateway, image: Image, neighbour: Microvm) -> Iterator[Microvm]:
    """A microVM of its own for each attack; afterwards the neighbour must be as it was."""
    pid, count = neighbour.vmm_pid, neighbour.get()["count"]
    microvm = Microvm.launch(gateway, image)
    microvm.wait_state("RUNNING")
    yield microvm
    assert neighbour.get()["count"] > count
    assert neighbour.vmm_pid == pid
    with suppress(Exception):
        microvm.terminate()
    microvm.wait_ended()


def connects(microvm: Microvm, address: str, port: int) -> bool:
    """Say whether a TCP connection from inside is made."""
    script = f'exit !IO::Socket::INET->new(PeerAddr => "{address}", PeerPort => {port}, Timeout => 1)'
    return microvm.shell_code(f"perl -MIO::Socket::INET -e '{script}'") == 0


def slot_of(microvm: Microvm) -> Slot:
    """Return the network of a microVM, by the note of its VMM."""
    server = microvm.gateway.server
    note = json.loads((server.microvm_directory(microvm.id) / "vmm.json").read_text())
    assert server.instance is not None
    return plan_slot(load({}).network_cidr, server.instance, note["slot"])


def groups_of(microvm: Microvm) -> dict[str, Path]:
    """Return where each limit of a microVM's processes is written: by controller, its directory."""
    lines = Path(f"/proc/{microvm.vmm_pid}/cgroup").read_text().splitlines()
    names = {Path(line.split(":", 2)[2]).name for line in lines}
    found = {}
    for place in find_places():
        for name in names:
            if name.startswith("emberbox-") and (place.path / name).is_dir():
                found.update(dict.fromkeys(place.controllers, place.path / name))
    return found


def figure(groups: dict[str, Path], controller: str, *names: str) -> int:
    """Return a number that a cgroup has, by its name in either version."""
    (found,) = [groups[controller] / name for name in names if (groups[controller] / name).exists()]
    return int(found.read_text().split()[0])


def outcome(microvm: Microvm) -> str | None:
    """Return how a microVM is that has taken too much: it answers, or has ended for that; None for neither yet."""
    described = microvm.describe()
    if described["state"] == "TERMINATED":
        assert "for want of memory" in described["stateReason"]
        return "ended"
    with suppress(httpx.HTTPError, AssertionError):
        return "answers" if microvm.get()["count"] else None
    return None


class TestLookingOut:
    """What is there to be seen, reached and ended."""

    def test_no_file_of_the_hosts_is_there(self, attacker: Microvm, gateway: Gateway, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("only the host's")
        home = gateway.server.home
        for path in (secret, home / "credentials", home / "emberbox.db"):
            for way in ("", "/proc/1/root", "/proc/self/root/..", "/proc/2/cwd"):
                assert attacker.shell_code(f"cat {way}{path}") != 0
        mounts = attacker.shell("cat /proc/self/mountinfo")
        assert str(home) not in mounts
        assert "9p" not in mounts

    def test_no_device_of_the_hosts_can_be_made(self, attacker: Microvm) -> None:
        """Device files can be made, with all rights; nothing is behind them."""
        numbers = Path("/proc/partitions").read_text().split("\n")[2].split()[:2]
        for kind, major, minor in (("b", *numbers), ("c", "1", "1"), ("c", "10", "232"), ("b", "7", "0")):
            made = (
                f"mknod /tmp/device {kind} {major} {minor}; head -c 1 /tmp/device; code=$?; rm /tmp/device; exit $code"
            )
            assert attacker.shell_code(made) != 0, (kind, major, minor)

    def test_no_process_of_the_hosts_is_there(self, attacker: Microvm, neighbour: Microvm, gateway: Gateway) -> None:
        processes = attacker.shell("cat /proc/[0-9]*/comm").split()
        assert processes
        assert set(processes) <= {"perl", "sh", "cat"}
        server = gateway.server.endpoints["pid"]
        for pid in (server, os.getpid(), neighbour.vmm_pid, attacker.vmm_pid):
            assert "No such process" in attacker.shell(f"kill -9 {pid}")

    def test_to_kill_all_that_can_be_killed_ends_nothing_else(self, attacker: Microvm, gateway: Gateway) -> None:
        with suppress(Exception):
            attacker.request("POST", "/sh", content="kill -9 -1; kill -9 1; reboot -f")
        assert host.is_running(gateway.server.endpoints["pid"])

    def test_the_agent_and_its_channel_are_out_of_reach(self, attacker: Microvm) -> None:
        """Not by its process, nor by its descriptors, nor as a program that could be changed."""
        assert attacker.shell_code("grep -l agent /proc/[0-9]*/comm") != 0
        assert attacker.shell_code("ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q agent") != 0
        assert attacker.shell_code("ls /.emberbox-agent") != 0
        attacker.shell("for fd in /proc/[0-9]*/fd/*; do echo garbage >$fd & done 2>/dev/null; sleep 0.2; kill %1")
        attacker.shell("umount -l /dev")  # the agent's own was below it once
        assert attacker.shell_code("ls /dev/agent /dev/identity") != 0
        assert attacker.get()["count"] >= 1

    def test_neither_host_nor_neighbour_is_reached(
        self, attacker: Microvm, neighbour: Microvm, gateway: Gateway
    ) -> None:
        server = gateway.server
        assert connects(attacker, "127.0.0.1", 8081)
        ports = [urlsplit(server.endpoints[name]).port for name in ("api_url", "s3_url")]
        for port in (*ports, int(server.endpoints["gateway"].partition(":")[2])):
            assert port
            assert not connects(attacker, "10.0.2.2", port)
            assert not connects(attacker, "127.0.0.1", port)
        ours, theirs = (slot_of(microvm) for microvm in (attacker, neighbour))
        with socket.create_server(("0.0.0.0", 0)) as listener:  # noqa: S104 - every address of this machine
            for address in (ours.host_address, theirs.host_address, host.outer_address()):
                assert not connects(attacker, address, listener.getsockname()[1]), address
        assert not connects(attacker, theirs.address, 8080)

    def test_frames_of_its_own_making_reach_nobody(self, attacker: Microvm, neighbour: Microvm) -> None:
        """Its wire ends in a namespace of its own."""
        address = 'pack("SSiSCCa8", 17, 8, 2, 1, 0, 6, "\\xff" x 6)'
        script = f'socket(my $s, 17, 3, 0x0300) or die; for (1..1000) {{ send($s, "\\xff" x 1400, 0, {address}) }}'
        attacker.shell(f"perl -e '{script}'")
        assert neighbour.get()["count"] >= 1


class TestTakingAll:
    """What is taken is the attacker's own."""

    def test_memory(self, attacker: Microvm) -> None:
        groups = groups_of(attacker)
        assert figure(groups, "memory", "memory.max", "memory.limit_in_bytes") == MEMORY_MAX
        with suppress(Exception):
            attacker.request("POST", "/sh", content=MEMORY_HOG)
        assert wait_for("it has ended, or lost the process and goes on", lambda: outcome(attacker))

    def test_files(self, attacker: Microvm, gateway: Gateway) -> None:
        """They are in its memory, half of which they may take, and the host's disk has nothing of them."""
        before = shutil.disk_usage(gateway.server.home).free
        answer = attacker.shell("cat /dev/zero >/data/filled; stat -c %s /data/filled")
        assert "No space left on device" in answer
        assert int(answer.split()[-1]) <= SIZE.mem_size_mib << 19
        assert attacker.get()["count"] >= 1
        assert before - shutil.disk_usage(gateway.server.home).free < 1 << 30

    def test_processes(self, attacker: Microvm, neighbour: Microvm) -> None:
        groups, begin = groups_of(attacker), neighbour.get()["count"]
        assert figure(groups, "pids", "pids.max") == PROCESSES_MAX
        attacker.shell(BOMB)
        wait_for("it has forked", lambda: figure(groups, "pids", "pids.current") > 200)
        for turn in range(1, 6):
            assert neighbour.get()["count"] == begin + turn
            assert figure(groups, "pids", "pids.current") <= PROCESSES_MAX
            time.sleep(0.2)
        attacker.terminate()
        attacker.wait_ended()

    def test_processor_time(self, attacker: Microvm) -> None:
        """It has as much as its size says, however many of its processes want some."""
        quota = figure(groups_of(attacker), "cpu", "cpu.max", "cpu.cfs_quota_us")
        assert quota == SIZE.vcpu_count * 100_000


async def test_a_tiny_sandbox_is_run_saved_and_restored(gateway: Gateway) -> None:
    runsc = await ensure_runsc(gateway.server.home, os.environ.get("EMBERBOX_RUNSC", ""))
    assert await probe_sandbox(GvisorDriver(await find_engine(runsc), runsc)) == ""


def test_the_boundary_in_force_is_told(gateway: Gateway) -> None:
    assert gateway.clients.emberbox.describe_server()["boundary"] == "user-space kernel"
    assert "boundary: user-space kernel" in gateway.server.log_path.read_text()


def test_a_group_ends_with_its_microvm(gateway: Gateway, image: Image) -> None:
    microvm = Microvm.launch(gateway, image)
    microvm.wait_state("RUNNING")
    groups = groups_of(microvm)
    assert set(groups) == {"memory", "cpu", "pids"}
    microvm.terminate()
    microvm.wait_ended()
    wait_for("its groups are gone", lambda: not any(path.exists() for path in groups.values()))
