"""gVisor for a server that is an ordinary user: the whole life of a microVM, with state from before at every step.

The state is a counter in memory, a file on disk, and a connection over loopback whose two ends are in the guest.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from emberbox.process.adoption import descendants
from emberbox.vmm.gvisor.limits import PROCESSES_MAX
from support import host, shell, tunnel
from support.aws import Clients
from support.guests import Gateway, Microvm, again
from support.images import Image, ImageMaker, probe_files
from support.server import make_home
from support.unprivileged import UID, UnprivilegedServer
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the ordinary user that the server is"),
]

LOOPBACK = r"""
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 7000, Listen => 1);
my $near = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 7000);
my $far = $listener->accept;
close $listener;
for (my $n = 1; ; $n++) {
    syswrite $near, "$n\n";
    my $heard = <$far>;
    open my $file, '>', '/dev/shm/beat.new'; print $file "$$ $heard"; close $file;
    rename '/dev/shm/beat.new', '/dev/shm/beat';
    select undef, undef, undef, 0.05;
}
"""
"""Sends numbers through a connection that is opened once, and tells the last that has come out, and who it is."""

REACH = 'perl -MIO::Socket::INET -e \'IO::Socket::INET->new(PeerAddr => "{}", PeerPort => 80) or print "$!"\''

ASK = """perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => "10.0.2.3", PeerPort => 53, Proto => "udp");
    syswrite $s, "question"; select undef, undef, undef, 0.5; defined sysread $s, my $answer, 100 or print "$!"'
"""


@dataclass
class Own:
    """The server, and an image of it."""

    server: UnprivilegedServer
    image: Image

    def gateway(self) -> Gateway:
        """Connect to the server as it is now."""
        return Gateway(self.server, Clients.of(self.server))

    def run(self, *arguments: str, expected: int = 0) -> str:
        """Run an `emberbox` command as the server's user; return its output."""
        command, environment = self.server.command(*arguments), self.server.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    """A server whose builds are its own user's too; when it stops, nothing of it may be left."""
    with UnprivilegedServer(make_home(), engine="gvisor", builds="host").running() as server:
        images = ImageMaker(Clients.of(server), server.endpoints["region"])
        yield Own(server, images.build("user", probe_files(), additionalOsCapabilities=["ALL"]))


@contextmanager
def running(own: Own) -> Iterator[Microvm]:
    """A microVM with a connection over loopback and a file; it is ended with the block."""
    ingress = shell.ingress(own.server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = Microvm.launch(own.gateway(), own.image, ingressNetworkConnectors=ingress)
    microvm.wait_state("RUNNING")
    microvm.shell(f"cat > /data/loopback.pl <<'END'{LOOPBACK}END\nperl /data/loopback.pl >/dev/null 2>&1 &")
    microvm.shell("echo kept > /data/file")
    wait_for("numbers come through the connection", lambda: microvm.shell_code("test -e /dev/shm/beat") == 0, 20)
    try:
        yield microvm
    finally:
        with suppress(Exception):
            again(microvm, own.gateway()).terminate()


@dataclass
class State:
    """What was there: the counter's value, who sends numbers, and the last that came."""

    count: int
    sender: int
    number: int

    @classmethod
    def of(cls, microvm: Microvm) -> State:
        """Look at a microVM."""
        sender, number = map(int, microvm.shell("cat /dev/shm/beat").split())
        return cls(microvm.get()["count"], sender, number)

    def assert_goes_on(self, microvm: Microvm) -> None:
        """Check that a microVM has it, and that numbers still come through the same connection."""
        assert microvm.get()["count"] > self.count
        assert microvm.shell("cat /data/file") == "kept\n"
        later = State.of(microvm)
        assert later.sender == self.sender
        wait_for("more numbers come", lambda: State.of(microvm).number > max(later.number, self.number), 20)


def test_the_server_and_the_doctor_say_what_is_lost(own: Own) -> None:
    log = own.server.log_path.read_text()
    assert "boundary: user-space kernel" in log
    for told in (log, " ".join(own.run("doctor").split())):
        assert "guests reach NOTHING outside" in told
        assert "nothing limits a guest's" in told


def test_no_process_of_a_microvm_has_rights_over_the_machine(own: Own) -> None:
    """All are that user, root in a namespace of their own, and so many processes as a cgroup would let them be."""
    with running(own) as microvm:
        keeper = microvm.vmm_pid
        for pid in (keeper, *(process.pid for process in descendants(keeper))):
            status = host.read_status(pid)
            assert set(status["Uid"].split()) == {str(UID)}
            assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(UID), "1"]
            assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()
            limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
            assert [line.split()[2:4] for line in limits if line.startswith("Max processes")] == [
                [str(PROCESSES_MAX)] * 2
            ]


def test_it_is_suspended_forked_snapshotted_and_rolled_back_with_its_state(own: Own) -> None:
    with running(own) as microvm:
        state = State.of(microvm)
        microvm.suspend()
        microvm.resume()
        state.assert_goes_on(microvm)
        emberbox = microvm.gateway.clients.emberbox
        for is_suspended in (False, True):
            state = State.of(microvm)
            if is_suspended:
                microvm.suspend()
            (item,) = emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
            fork = Microvm(item["microvmId"], item["endpoint"], microvm.gateway)
            fork.wait_state("RUNNING")
            state.assert_goes_on(fork)
            fork.terminate()
            assert fork.wait_ended() == "Success."
        microvm.resume()
        version = emberbox.snapshot_microvm(microvmIdentifier=microvm.id)["imageVersion"]
        before = State.of(microvm)
        microvm.shell("echo changed > /data/file")
        emberbox.restore_microvm(microvmIdentifier=microvm.id, imageVersion=version)
        microvm.wait_state("RUNNING")
        assert before.count <= State.of(microvm).count
        state.assert_goes_on(microvm)
        microvm.terminate()
        assert microvm.wait_ended() == "Success."


def test_the_next_server_takes_it_over_after_a_kill(own: Own) -> None:
    """One that runs, and one that is suspended."""
    with running(own) as first, running(own) as second:
        states = [State.of(each) for each in (first, second)]
        second.suspend()
        pid = first.vmm_pid
        own.server.kill()
        assert host.is_running(pid)
        own.server.start()
        microvm, suspended = (again(each, own.gateway()) for each in (first, second))
        microvm.wait_state("RUNNING")
        assert microvm.vmm_pid == pid
        assert suspended.state() == "SUSPENDED"
        suspended.resume()
        for each, state in zip((microvm, suspended), states, strict=True):
            state.assert_goes_on(each)
        state = State.of(microvm)
        microvm.suspend()
        microvm.resume()
        state.assert_goes_on(microvm)


def test_clients_reach_every_port_and_streams_end_with_a_suspend(own: Own) -> None:
    with running(own) as microvm:
        for port in (8080, 8081, 8082, 8083, 8085):
            assert microvm.get(port=port)["port"] == port
        tunnel.serve(microvm)
        with tunnel.open_tunnel(microvm) as stream:
            stream.ask("one")
            stream.ask("two")
            microvm.suspend()
            stream.assert_closed()
        microvm.resume()
        with tunnel.open_tunnel(microvm) as stream:
            stream.ask("another")


def test_commands_copies_and_logs(own: Own) -> None:
    with running(own) as microvm:
        assert own.run("exec", microvm.id, "--", "cat", "/data/file") == "kept\n"
        own.run("exec", microvm.id, "--", "sh", "-c", "exit 7", expected=7)
        sent = own.server.home.parent / "sent"
        sent.write_bytes(os.urandom(1 << 20))
        back = own.server.home.parent / "back"
        back.mkdir()
        os.chown(back, UID, UID)
        own.run("cp", str(sent), f"{microvm.id}:/data/copy")
        own.run("cp", f"{microvm.id}:/data/copy", str(back))
        assert (back / "copy").read_bytes() == sent.read_bytes()
        with shell.open_shell(microvm) as terminal:
            terminal.type("echo $((6 * 7))\n")
            terminal.read_until("42")
        wait_for("its output is in the log", lambda: "probe is listening" in own.run("logs", own.image.name), 20)


def test_what_leads_outside_is_refused_at_once(own: Own) -> None:
    """It is told that there is no network; after a time-out it would be that there is no route, or nothing."""
    with running(own) as microvm:
        assert microvm.shell(REACH.format("198.51.100.7")) == "Network is unreachable"
        assert microvm.shell(REACH.format("169.254.169.254")) == "Network is unreachable"
        assert microvm.shell(ASK) == "Connection refused"
        assert microvm.shell_code("getent hosts example.com") == 2
