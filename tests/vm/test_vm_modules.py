"""Modules of the guest's kernel: with all capabilities Docker, NFS, loop, tun and FUSE work, also after a suspend.

One microVM has all of it; the tests look at it as it was set up, and once more when it was suspended and resumed.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import shell
from support.guests import Gateway, Microvm
from support.images import Image, ImageMaker, probe_files
from support.server import Server
from support.waiting import wait_for

pytestmark = pytest.mark.vm

DOCKERFILE = """\
FROM emberbox/debian:12
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
    busybox-static docker.io iproute2 iptables kmod nfs-kernel-server
COPY probe.pl /probe.pl
COPY *.sh peer.pl /srv/
RUN mkdir /data
EXPOSE 8080
CMD ["perl", "/probe.pl"]
"""
PEER = """\
use IO::Socket::IP;
my $listener = IO::Socket::IP->new(LocalHost => '192.0.2.2', LocalPort => 80, Listen => 9, ReuseAddr => 1) || die "$@";
while (my $client = $listener->accept) { print $client $client->peerhost, "\\n"; close $client }
"""
"""Tells each client the address that it comes from; it is outside, where containers get by NAT only."""

OUTSIDE = """\
set -e
ip netns add outside
ip link add inner type veth peer name outer netns outside
ip address add 192.0.2.1/24 dev inner
ip link set inner up
ip -n outside address add 192.0.2.2/24 dev outer
ip -n outside link set outer up
setsid ip netns exec outside perl /srv/peer.pl > /var/log/peer 2>&1 < /dev/null &
"""
DOCKERD = """\
set -e
truncate -s 1G /docker.img
mkfs.ext4 -q /docker.img
mkdir -p /var/lib/docker
mount -o loop /docker.img /var/lib/docker
setsid dockerd > /var/log/dockerd 2>&1 < /dev/null &
"""
CONTAINER = """\
set -e
libraries=$(ldd /bin/bash | grep -o '/lib[^ ]*')
tar -C / --dereference -c bin/bash bin/busybox ${libraries} | docker import - tools
docker run --detach --name web --publish 8099:80 --memory 64m tools busybox sh -c \\
    'mkdir /www; echo made > /www/index.html; exec busybox httpd -f -p 80 -h /www'
"""
NFS = """\
set -e
mkdir -p /srv/share /mnt/share
mount -t tmpfs none /srv/share
echo '/srv/share 127.0.0.1(rw,fsid=0,no_subtree_check,no_root_squash,insecure)' > /etc/exports
mount -t nfsd nfsd /proc/fs/nfsd
echo 10 > /proc/fs/nfsd/nfsv4leasetime
echo 10 > /proc/fs/nfsd/nfsv4gracetime
exportfs -ra
rpc.mountd --no-nfs-version 3 --port 2050 > /var/log/mountd 2>&1 < /dev/null
rpc.nfsd --no-nfs-version 3 1
echo Y > /proc/fs/nfsd/v4_end_grace
timeout 50 mount -t nfs4 127.0.0.1:/ /mnt/share
"""
SCRIPTS = {"outside.sh": OUTSIDE, "dockerd.sh": DOCKERD, "container.sh": CONTAINER, "nfs.sh": NFS}


@pytest.fixture(scope="module")
def capable(images: ImageMaker) -> Iterator[Image]:
    files = {**probe_files(DOCKERFILE), **SCRIPTS, "peer.pl": PEER}
    image = images.start("modules", files, additionalOsCapabilities=["ALL"])
    yield images.wait_created(image)
    images.delete(image)


@pytest.fixture(scope="module")
def set_up(gateway: Gateway, server: Server, capable: Image) -> Iterator[Microvm]:
    """A microVM that has all of it; nothing of its set-up loads a module by name."""
    connectors = shell.ingress(server.endpoints["region"], "SHELL_INGRESS", "HTTP_INGRESS")
    microvm = Microvm.launch(gateway, capable, ingressNetworkConnectors=connectors)
    microvm.wait_state("RUNNING")
    assert "bridge" not in modules(microvm)
    for script in ("outside", "dockerd", "nfs"):
        shell.run(microvm, f"sh /srv/{script}.sh")
    wait_for("dockerd answers", lambda: "up" in shell.run(microvm, "docker info > /dev/null 2>&1 && echo up || true"))
    shell.run(microvm, "sh /srv/container.sh")
    yield microvm
    microvm.terminate()
    microvm.wait_ended()


@pytest.fixture(scope="module", params=["running", "resumed"])
def guest(request: pytest.FixtureRequest, set_up: Microvm) -> Microvm:
    """The same as it was set up, then as it comes back from a suspend."""
    if request.param == "resumed":
        set_up.suspend()
        set_up.resume()
        set_up.wait_state("RUNNING")
    return set_up


def modules(microvm: Microvm) -> set[str]:
    return {line.split()[0] for line in shell.run(microvm, "cat /proc/modules").splitlines()}


def test_the_kernel_has_loaded_what_was_asked_for(guest: Microvm) -> None:
    """By interfaces, rules, file systems and devices; nobody named a module."""
    assert {"bridge", "loop", "nf_nat", "nfsd", "nfsv4", "overlay", "veth", "xt_MASQUERADE"} <= modules(guest)


def test_docker_has_its_default_network_and_storage(guest: Microvm) -> None:
    """The bridge is there, and layers share files, as Docker's files are on a file system of their own."""
    asked = "docker info --format '{{.Driver}} {{.MemoryLimit}}' && docker network inspect bridge --format {{.Driver}}"
    assert shell.run(guest, asked).split() == ["overlay2", "true", "bridge"]


def test_a_container_goes_on_and_is_reached_from_outside(guest: Microvm) -> None:
    """Its published port answers through the gateway; it is the same process as before a suspend."""
    assert guest.request("GET", "/index.html", port=8099).text == "made\n"
    inspected = "docker inspect web --format '{{.RestartCount}} {{.State.Status}}'"
    assert shell.run(guest, inspected).split() == ["0", "running"]
    assert shell.run(guest, "docker exec web busybox cat /sys/fs/cgroup/memory.max").strip() == str(64 << 20)


def test_a_container_reaches_out_by_nat(guest: Microvm) -> None:
    """A server outside, which has no way back to the container's address, sees the guest's own."""
    asked = "docker run --rm tools bash -c 'read -r seen < /dev/tcp/192.0.2.2/80 && echo $seen'"
    assert shell.run(guest, f"timeout 50 {asked}").split() == ["192.0.2.1"]


def test_nfs_serves_and_is_mounted(guest: Microvm) -> None:
    """What is written through the mount is in the export, and what another has written is seen."""
    written = shell.run(guest, "date +%s%N | timeout 50 tee /mnt/share/file && cat /srv/share/file").split()
    assert len(written) == 2
    assert written[0] == written[1]
    assert "/mnt/share nfs4 " in shell.run(guest, "cat /proc/mounts")


def test_devices_make_the_kernel_load_their_drivers(guest: Microvm) -> None:
    """A tun interface is made and stays; /dev/fuse and the device mapper can be opened."""
    shell.run(guest, "ip link show tun0 > /dev/null 2>&1 || ip tuntap add tun0 mode tun")
    shell.run(guest, ": <> /dev/fuse && : < /dev/mapper/control")
    assert {"tun", "fuse", "dm_mod"} <= modules(guest)


def test_root_loads_a_module_by_name_with_its_own_modprobe(guest: Microvm) -> None:
    """Those of kmod and BusyBox find it, by name and by alias, with what it needs."""
    shell.run(guest, "modprobe wireguard && busybox modprobe vxlan && modprobe rtnl-link-ipvlan")
    assert {"wireguard", "udp_tunnel", "vxlan", "ipvlan"} <= modules(guest)


def test_commands_run_beside_an_application_that_shares_out_its_cgroup(guest: Microvm) -> None:
    """Controllers are given to the cgroups below its own, of which it is one itself, and commands are another."""
    assert "memory" in shell.run(guest, "cat /sys/fs/cgroup/cgroup.subtree_control").split()
    assert shell.run(guest, "cat /proc/1/cgroup /proc/self/cgroup").split() == ["0::/app", "0::/commands"]
