"""Suspend and resume: everything comes back, the VMM is gone meanwhile, and only changes are written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from support import host
from support.aws import Clients
from support.engines import ENGINE
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
MIB = 1 << 20
BYTES_FACTOR = 1.5
CLOCK_ERROR_S = 0.05


def saved_files(server: Server, microvm: Microvm) -> list[Path]:
    """Return the files of a suspended microVM that its state consists of, the description left out."""
    directory = server.microvm_directory(microvm.id)
    described = json.loads((directory / "suspended.json").read_text().partition("\n")[0])
    return [directory / name for name in described["files"]]


def memory_bytes(server: Server, microvm: Microvm) -> int:
    """Return how many bytes of memory a suspended microVM takes on the disk."""
    memory = [path for path in saved_files(server, microvm) if path.name.startswith("memory")]
    assert memory
    return sum(path.stat().st_blocks * 512 for path in memory)


def test_a_suspended_microvm_has_no_vmm(microvm: Microvm, server: Server) -> None:
    """After SuspendMicrovm the state is SUSPENDED, the VMM's process is gone and no file says otherwise."""
    pid = microvm.vmm_pid
    assert host.is_running(pid)
    microvm.suspend()
    assert microvm.state() == "SUSPENDED"
    assert not host.is_running(pid)
    assert (server.microvm_directory(microvm.id) / "suspended.json").exists()


@pytest.mark.both_engines
def test_a_resumed_microvm_goes_on_where_it_was(probe: Microvm) -> None:
    """Counter, file, process ids, a running child with its open file, and the kernel's boot id are the same."""
    probe.shell("echo kept > /data/file; sleep 4000 9>/data/open >/dev/null 2>&1 &")
    look = (
        "cat /proc/sys/kernel/random/boot_id /data/file; cd /proc; for p in [0-9]*; do "
        "grep -qs sleep $p/comm && tr '\\0' ' ' < $p/cmdline && echo $p $(readlink $p/fd/9); done"
    )
    before, count = probe.shell(look), probe.get()
    assert "kept" in before
    assert "sleep 4000" in before
    assert before.rstrip().endswith("/data/open")
    probe.suspend()
    probe.resume()
    after = probe.get()
    assert (after["count"], after["pid"]) == (count["count"] + 1, count["pid"])
    assert probe.shell(look) == before


@pytest.mark.both_engines
def test_the_clock_is_right_after_a_launch_and_after_a_resume(probe: Microvm) -> None:
    """The guest's clock is set before the application runs again, to within 50 ms."""
    assert clock_error_s(probe) <= CLOCK_ERROR_S
    probe.suspend()
    time.sleep(2)
    probe.resume()
    assert clock_error_s(probe) <= CLOCK_ERROR_S


def clock_error_s(microvm: Microvm) -> float:
    """Return by how much a guest's clock is certainly wrong: it is read at some time within a request."""
    before = time.time()
    inside = float(microvm.shell("date +%s.%N"))
    after = time.time()
    return max(before - inside, inside - after, 0)


def test_the_monotonic_clock_goes_on_while_suspended(probe: Microvm) -> None:
    """What passed outside has passed inside, by every clock; a timer that came due meanwhile fires before another."""
    clock_gettime = "perl -e '$b = pack q(qq), 0, 0; syscall(228, 1, $b); print join q(.), unpack q(qq), $b'"
    probe.shell("(sleep 12; touch /data/rang) >/dev/null 2>&1 &")
    inside, outside = (float(probe.shell(clock_gettime)), time.monotonic())
    probe.suspend()
    time.sleep(13)
    probe.resume()
    assert probe.shell_code("sleep 2; test -e /data/rang") == 0
    passed_inside, passed_outside = float(probe.shell(clock_gettime)) - inside, time.monotonic() - outside
    assert passed_inside > 13
    assert abs(passed_inside - passed_outside) < 5


PEERS = r"""
use IO::Socket::INET;
my $outer = IO::Socket::INET->new(LocalPort => 9999, Listen => 1, ReuseAddr => 1)->accept;
my $inner = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 9998, Listen => 1, ReuseAddr => 1);
my $one = IO::Socket::INET->new("127.0.0.1:9998");
my $other = $inner->accept;
open my $ready, ">", "/data/ready"; close $ready;
my $got = sysread $outer, my $byte, 1;
my $error = $! + 0;
syswrite $one, "alive";
sysread $other, my $word, 5;
open my $said, ">", "/data/said.new";
print $said defined $got ? "read $got" : "error $error", " $word";
close $said;
rename "/data/said.new", "/data/said";
"""


def test_connections_to_elsewhere_end_at_a_resume_and_those_inside_live(probe: Microvm, server: Server) -> None:
    """A process that waits for a peer outside the guest gets an error at once; loopback connections go on."""
    if server.instance is None:
        pytest.skip("without networks of its own a guest cannot be reached past the gateway")
    slot = host.find_slot(server.instance, server.microvm_directory(probe.id))
    assert slot is not None
    probe.shell(f"cat > /data/peers.pl <<'END'{PEERS}END\nperl /data/peers.pl >/dev/null 2>&1 &")
    outer = wait_for("it listens", lambda: connect(slot.address, 9999), 20)
    wait_for("it waits", lambda: probe.shell_code("test -e /data/ready") == 0, 20)
    probe.suspend()
    probe.resume()
    said = wait_for("it has noticed", lambda: probe.shell("cat /data/said 2>/dev/null"), 20)
    assert said in (f"error {errno.ECONNABORTED} alive", f"error {errno.ECONNRESET} alive")
    outer.close()


def connect(address: str, port: int) -> socket.socket | None:
    """Connect from another address of this machine than the gateway's at the slot: connections from there are held."""
    with contextlib.suppress(OSError):
        return socket.create_connection((address, port), 5, source_address=(host.outer_address(), 0))
    return None


POLLER = r"""
use IO::Socket::INET;
my ($create, $control, $wait) = (291, 233, 232);    # epoll_create1(2), epoll_ctl(2), epoll_wait(2) on x86-64
my $listener = IO::Socket::INET->new(LocalPort => 9999, Listen => 8, ReuseAddr => 1);
my $poll = syscall($create, 0);
my %open;
sub watch {
    $open{fileno $_[0]} = $_[0];
    my $event = pack 'LLL', 1, fileno $_[0], 0;    # EPOLLIN
    syscall($control, $poll, 1, fileno $_[0], $event);
}
watch($listener);
while (1) {
    my $events = "\0" x (12 * 8);
    my $count = syscall($wait, $poll, $events, 8, -1);
    for my $i (0 .. $count - 1) {
        my ($flags, $fd) = unpack 'LL', substr $events, 12 * $i;
        if ($fd == fileno $listener) {
            my $client = $listener->accept or next;
            syswrite $client, "hello";
            watch($client);
        } elsif (!sysread $open{$fd}, my $byte, 1) {
            open my $log, '>>', '/data/ended'; print $log 'e'; close $log;
            close delete $open{$fd};
        }
    }
}
"""
CONNECTIONS = 3


@pytest.mark.both_engines
def test_an_application_that_waits_by_epoll_learns_that_its_connections_to_elsewhere_ended(
    probe: Microvm, server: Server
) -> None:
    """Over several suspends with connections open: it is told of the end of each, and sees new clients."""
    if server.instance is None:
        pytest.skip("without networks of its own a guest cannot be reached past the gateway")
    probe.shell(f"cat > /data/poller.pl <<'END'{POLLER}END\nperl /data/poller.pl >/dev/null 2>&1 &")
    for turn in range(1, 3):
        slot = host.find_slot(server.instance, server.microvm_directory(probe.id))
        assert slot is not None
        clients = [greeted(slot.address) for _ in range(CONNECTIONS)]
        probe.suspend()
        probe.resume()
        ended = "e" * CONNECTIONS * turn
        wait_for("it was told", lambda: probe.shell("cat /data/ended 2>/dev/null") == ended, 20)  # noqa: B023 - at once
        for client in clients:
            client.close()


def greeted(address: str) -> socket.socket:
    """Return a connection from elsewhere to the application of above, which has accepted it."""
    client = wait_for("it listens", lambda: connect(address, 9999), 20)
    assert client.recv(5, socket.MSG_WAITALL) == b"hello"
    return client


@pytest.mark.parametrize("mib", [5, 50])
def test_a_suspend_writes_what_was_changed(microvm: Microvm, server: Server, mib: int) -> None:
    """The memory written is at most 1.5 times what was dirtied, beside a fixed base."""
    microvm.get(f"/dirty?mib={mib}")
    microvm.suspend()
    written = memory_bytes(server, microvm)
    assert mib * MIB <= written <= BYTES_FACTOR * mib * MIB + ENGINE.fixed_bytes, f"{written / MIB:.1f} MiB"


def test_memory_that_the_guest_has_freed_is_given_back_and_not_written(
    probe: Microvm, server: Server, clients: Clients
) -> None:
    """A process took 100 MiB and has ended: neither the host's memory nor the suspend's file holds them."""
    probe.shell(f"perl -e '$x = qq(x) x {100 * MIB}; print length $x'")
    wait_for("the guest has given it back", lambda: changed_bytes(clients, probe) < 2 * ENGINE.fixed_bytes, 30)
    probe.suspend()
    assert memory_bytes(server, probe) < 2 * ENGINE.fixed_bytes
    probe.resume()
    assert probe.shell(f"perl -e '$x = qq(y) x {100 * MIB}; print $x =~ tr/y//'") == str(100 * MIB)


def changed_bytes(clients: Clients, microvm: Microvm) -> int:
    """Return how much memory the server says a microVM has changed since its last start."""
    rows = clients.emberbox.describe_host()["microvms"]
    return next(int(row["changedMemoryInBytes"]) for row in rows if row["microvmId"] == microvm.id)


def test_state_survives_many_suspends(microvm: Microvm, server: Server) -> None:
    """Five cycles, each with new memory and a new line in the file: nothing is lost, and layers do not pile up."""
    for cycle in range(1, 6):
        seen = microvm.get()
        assert (seen["count"], seen["file"]) == (cycle, cycle)
        assert microvm.get("/dirty?mib=2")["held_mib"] == 2 * cycle
        microvm.suspend()
        assert memory_bytes(server, microvm) <= BYTES_FACTOR * 2 * cycle * MIB + 2 * ENGINE.fixed_bytes
        microvm.resume()
    assert microvm.get()["count"] == 6


def test_suspend_and_resume_are_idempotent(suspended_microvm: Microvm) -> None:
    """Repeats answer with success and change nothing."""
    suspended_microvm.suspend()
    assert suspended_microvm.state() == "SUSPENDED"
    suspended_microvm.resume()
    pid = suspended_microvm.vmm_pid
    suspended_microvm.resume()
    assert suspended_microvm.state() == "RUNNING"
    assert suspended_microvm.vmm_pid == pid
    assert suspended_microvm.get()["count"] == 2


def test_a_request_wakes_a_microvm_that_may_resume_by_itself(launch: Launch, flask_image: Image) -> None:
    """With autoResumeEnabled the request is held, the microVM resumed and the request answered."""
    policy = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": True}
    microvm = launch(flask_image, idlePolicy=policy)
    microvm.get()
    microvm.suspend()
    assert microvm.state() == "SUSPENDED"
    assert microvm.get()["count"] == 2
    assert microvm.state() == "RUNNING"


def test_a_request_does_not_wake_a_microvm_without_auto_resume(launch: Launch, flask_image: Image) -> None:
    """Without autoResumeEnabled, or without any policy, the gateway answers 502 with an empty body."""
    policy = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 600, "autoResumeEnabled": False}
    for parameters in ({"idlePolicy": policy}, {}):
        microvm = launch(flask_image, **parameters)
        microvm.suspend()
        answer = microvm.request()
        assert (answer.status_code, answer.text) == (502, "")
        assert microvm.state() == "SUSPENDED"


def test_a_token_for_a_suspended_microvm_does_not_wake_it(suspended_microvm: Microvm) -> None:
    """Minting works in every state and changes none."""
    assert suspended_microvm.mint()
    assert suspended_microvm.state() == "SUSPENDED"


def test_a_suspended_microvm_ends_when_its_time_is_over(launch: Launch, flask_image: Image) -> None:
    """The time suspendedDurationSeconds counts from the suspend; then the microVM is TERMINATED."""
    policy = {"maxIdleDurationSeconds": 600, "suspendedDurationSeconds": 1, "autoResumeEnabled": False}
    microvm = launch(flask_image, idlePolicy=policy)
    microvm.suspend()
    assert microvm.wait_ended(30) == "MicroVM exceeded maximum suspended duration"


def test_a_suspended_microvm_can_be_terminated(suspended_microvm: Microvm, server: Server) -> None:
    """TerminateMicrovm frees a suspended microVM's files without waking it."""
    suspended_microvm.terminate()
    assert suspended_microvm.wait_ended() == "Success."
    assert not server.microvm_directory(suspended_microvm.id).exists()


@pytest.mark.both_engines
def test_memory_of_a_damaged_suspend_is_never_run(suspended_microvm: Microvm, server: Server) -> None:
    """One byte of its saved state is wrong: it is not resumed, the row says why, and it stays SUSPENDED."""
    description = server.microvm_directory(suspended_microvm.id) / "suspended.json"
    files = saved_files(server, suspended_microvm)
    assert any(path.name.startswith("memory") for path in files)
    for path in (description, *files):
        status = path.stat()
        with path.open("r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes((byte[0] ^ 1,)))
        with pytest.raises(suspended_microvm.api.exceptions.InternalServerException, match="is still suspended"):
            suspended_microvm.resume()
        described = suspended_microvm.describe()
        assert described["state"] == "SUSPENDED"
        assert "damaged" in described["stateReason"]
        with path.open("r+b") as file:
            file.write(byte)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    suspended_microvm.resume()
    assert "stateReason" not in suspended_microvm.describe()
    assert suspended_microvm.get()["count"] == 2


def test_state_of_another_engine_is_refused_before_anything_starts(probe: Microvm, server: Server) -> None:
    """It is not resumed, forked or gone back to; the error names both engines and says what to do; nothing is lost."""
    emberbox, directory = probe.gateway.clients.emberbox, server.microvm_directory(probe.id)
    version = emberbox.snapshot_microvm(microvmIdentifier=probe.id, status="INACTIVE")["imageVersion"]
    of_any_image = server.snapshot_directory().glob(f"*/{version}/snapshot.json")
    taken = max(of_any_image, key=lambda path: path.stat().st_mtime)  # other images have versions of this number too
    told = rf"{ENGINE.title} 6\.1\.5 .* this server has {ENGINE.title} .* install {ENGINE.title} 6\.1 again"
    pid = probe.vmm_pid
    with saved_by(taken, "6.1.5"), pytest.raises(ClientError, match=told):
        emberbox.restore_microvm(microvmIdentifier=probe.id, imageVersion=version)
    assert (probe.state(), probe.vmm_pid) == ("RUNNING", pid)
    probe.suspend()
    with saved_by(directory / "suspended.json", "6.1.5"):
        with pytest.raises(ClientError, match=told):
            probe.resume()
        with pytest.raises(ClientError, match=told):
            emberbox.fork_microvm(microvmIdentifier=probe.id)
        described = probe.describe()
        assert described["state"] == "SUSPENDED"
        assert f"{ENGINE.title} 6.1.5" in described["stateReason"]
        assert not host.is_running(pid)
    probe.resume()
    assert "stateReason" not in probe.describe()


@contextlib.contextmanager
def saved_by(path: Path, version: str) -> Iterator[None]:
    """Let the last file of saved state say for a while that another release of the engine saved it."""
    whole = path.read_text()
    content = json.loads(whole.partition("\n")[0])
    content["engine"]["version"] = version
    text = json.dumps(content)
    replace_file(path, f"{text}\n{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}\n")
    try:
        yield
    finally:
        replace_file(path, whole)


def replace_file(path: Path, text: str) -> None:
    """Other snapshots may share the file as a hard link: they keep what they have."""
    scratch = path.with_suffix(".other")
    scratch.write_text(text)
    scratch.replace(path)


def test_a_request_under_way_does_not_hinder_a_suspend(probe: Microvm) -> None:
    """An open connection is lost with the suspend; the microVM itself comes back sound."""
    slow = threading.Thread(target=lambda: probe.request("POST", "/sh", content="sleep 3"), daemon=True)
    probe.get()
    slow.start()
    wait_for("the slow request is under way", slow.is_alive, 5)
    probe.suspend()
    assert probe.state() == "SUSPENDED"
    probe.resume()
    assert probe.get()["port"] == 8080
    slow.join(60)
