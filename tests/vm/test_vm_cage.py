"""The cage: what a VMM's process may do, and what a guest reaches."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support import host
from support.guests import Microvm
from support.images import Image
from support.server import Server
from support.waiting import wait_for

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gives VMMs users and networks of their own"),
]

Launch = Callable[..., Microvm]


def test_the_vmm_has_no_privileges(probe: Microvm, server: Server) -> None:
    """Its user is neither root nor the server's; no capability, no new privileges, and seccomp filters it."""
    status = host.read_status(probe.vmm_pid)
    uids = {int(uid) for uid in status["Uid"].split()}
    assert len(uids) == 1
    assert not uids & {0, os.geteuid()}
    assert {int(gid) for gid in status["Gid"].split()} == uids
    assert status["Groups"] == ""
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert all(int(status[f"Cap{kind}"], 16) == 0 for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"))


def test_two_vmms_are_different_users(launch: Launch, probe_image: Image) -> None:
    """One VMM that is broken out of cannot touch another's process."""
    uids = {host.read_status(launch(probe_image).vmm_pid)["Uid"] for _ in range(2)}
    assert len(uids) == 2


def test_the_vmm_is_in_a_network_with_no_way_out(probe: Microvm) -> None:
    """Its network namespace is not the host's and has no interface that is up."""
    namespace = Path(f"/proc/{probe.vmm_pid}/ns/net")
    assert namespace.stat().st_ino != Path("/proc/self/ns/net").stat().st_ino
    shown = host.run("nsenter", f"--net={namespace}", "ip", "-brief", "link")
    assert [line.split()[0] for line in shown.splitlines()] == ["lo"]
    assert "UP" not in shown.split("<")[0].split()
    assert host.run("nsenter", f"--net={namespace}", "ip", "route") == ""


def test_the_command_line_holds_no_path_into_the_home(probe: Microvm, server: Server) -> None:
    """Files are handed over as open descriptors; the command line names none."""
    command = Path(f"/proc/{probe.vmm_pid}/cmdline").read_bytes().decode()
    assert str(server.home) not in command
    assert str(server.home) not in Path(f"/proc/{probe.vmm_pid}/environ").read_bytes().decode()


def test_the_vmm_can_write_only_its_own_files(probe: Microvm, server: Server) -> None:
    """Of all it holds open for writing, files are only in the microVM's own directory."""
    writable = {path for path, mode in host.open_files(probe.vmm_pid).items() if mode != os.O_RDONLY}
    files = {path for path in writable if path.startswith("/") and not path.startswith("/dev/")}
    own = str(server.microvm_directory(probe.id))
    assert files
    assert all(path.startswith(f"{own}/") for path in files), files


def test_the_snapshot_cannot_be_opened_by_the_vmms_user(probe: Microvm, server: Server) -> None:
    """The image's memory is out of that user's reach, by path and by the descriptor that it inherited."""
    uid = host.read_status(probe.vmm_pid)["Uid"].split()[0]
    (memory,) = [path for path in host.open_files(probe.vmm_pid) if path.endswith("/memory")]
    assert memory.startswith(f"{server.snapshot_directory()}/")
    by_path = f"exec 3<>{memory}"
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    with open(memory, "rb") as inherited:  # noqa: PTH123 - a descriptor to hand down
        for attempt in (by_path, f"exec 3<>/proc/self/fd/{inherited.fileno()}"):
            with pytest.raises(AssertionError, match="Permission denied"):
                host.run(*drop, "--", "bash", "-c", attempt, pass_fds=(inherited.fileno(),))


def test_the_state_directory_is_closed_to_others(server: Server) -> None:
    """Nobody but the server's user looks into the home, and secrets are closed once more."""
    assert server.home.stat().st_mode & 0o077 == 0
    secrets = [server.home / "credentials", *(server.home / "secrets").iterdir()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in secrets)


@contextmanager
def listening(address: str) -> Iterator[tuple[int, list[str]]]:
    """Listen on an address of the host; gives the port and the list of peers that came."""
    peers: list[str] = []
    with socket.create_server((address, 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                peers.append(peer[0])
                connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], peers
        listener.shutdown(socket.SHUT_RDWR)


def connects(probe: Microvm, address: str, port: int) -> bool:
    """Say whether a TCP connection from inside the guest is made."""
    script = f'exit !IO::Socket::INET->new(PeerAddr => "{address}", PeerPort => {port}, Timeout => 3)'
    return probe.shell_code(f"perl -MIO::Socket::INET -e '{script}'") == 0


def test_the_guest_reaches_itself(probe: Microvm) -> None:
    """The way in which the tests below look for a connection finds one where there is one."""
    assert connects(probe, "127.0.0.1", 8081)
    assert connects(probe, "10.0.2.15", 8080)
    assert not connects(probe, "127.0.0.1", 4444)


def test_the_guest_cannot_reach_the_hosts_services(probe: Microvm, server: Server) -> None:
    """Neither loopback services behind the gateway's address nor any address of the host answers."""
    api, s3 = (urlsplit(server.endpoints[name]).port for name in ("api_url", "s3_url"))
    assert api
    assert s3
    for port in (api, s3, int(server.endpoints["gateway"].partition(":")[2])):
        assert not connects(probe, "10.0.2.2", port)
    slot = host.find_slot(server.instance, server.microvm_directory(probe.id))
    assert slot is not None
    for address in [slot.host_address, *host.own_addresses()]:
        with listening("0.0.0.0") as (port, peers):  # noqa: S104 - every address of this machine is what is tested
            with socket.create_connection((address, port), 3):
                wait_for("the listener answers the host itself", peers.copy, 5)
            peers.clear()
            assert not connects(probe, address, port), address
            assert not peers


def test_the_guest_cannot_reach_another_microvm(launch: Launch, probe: Microvm, probe_image: Image) -> None:
    """Another microVM's address answers the host and not a neighbour."""
    other = launch(probe_image)
    server = probe.gateway.server
    slot = host.find_slot(server.instance, server.microvm_directory(other.id))
    assert slot is not None
    assert not connects(probe, slot.address, 8080)
    assert not connects(probe, slot.host_address, 8080)


@pytest.mark.parametrize("address", ["169.254.169.253", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"])
def test_the_guest_is_refused_private_networks(probe: Microvm, address: str) -> None:
    """Link-local and private networks are refused at once, not by a time-out."""
    script = f'IO::Socket::INET->new(PeerAddr => "{address}", PeerPort => 80) || die "$!\\n"'
    answer = probe.shell(f"timeout 20 perl -MIO::Socket::INET -e '{script}'")
    assert "No route to host" in answer or "Permission denied" in answer or "unreachable" in answer, answer


def test_a_stranger_on_the_host_cannot_reach_a_guest(probe: Microvm, server: Server) -> None:
    """Only the server's user opens connections to a guest past the gateway."""
    slot = host.find_slot(server.instance, server.microvm_directory(probe.id))
    assert slot is not None
    command = ["curl", "-s", "-m", "5", "-o", "/dev/null", f"http://{slot.address}:8080/"]
    host.run(*command)
    with pytest.raises(AssertionError):
        host.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", *command)
