"""Real AArch64 guests on an x86 machine: built for ARM_64, emulated, and with the whole life of any other microVM.

Everything is slow: RUN steps by QEMU's user mode, the guest by its emulator. So there is one image and few launches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emberbox.host import foreign_programs, native
from emberbox.host.architecture import ARM_64
from emberbox.time_limits import limit_s
from emberbox.vmm.base import Cage
from emberbox.vmm.qemu.arm64 import find_program
from emberbox.vmm.qemu.probe import run_tiny_guest
from support.aws import Clients
from support.container_images import MadeImage, entry, make_tar, oci_archive
from support.guests import Gateway, Microvm, again
from support.images import BUILD_TIMEOUT_S, PROBE_DOCKERFILE, Image, ImageMaker, probe_files
from support.server import Server, make_home

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root tells the kernel to run programs of another processor"),
]

ARM: list[Any] = [{"architecture": "ARM_64"}]
STEP = "RUN uname -m > /built-on && perl -e 'print 6 * 7' >> /built-on\n"
DOCKERFILE = PROBE_DOCKERFILE.replace("FROM ", "FROM --platform=linux/arm64 ").replace("EXPOSE", f"{STEP}EXPOSE")
FIRST_BUILD_S = limit_s(1800)
"""The base image is made at the first: a hundred packages are set up by emulated programs."""

PROGRAM = r"""
#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"
                             "{\"from\": \"ARM64\"}";
int main(void) {
    struct sockaddr_in all = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&all, sizeof all);
    listen(listener, 64);
    for (int client; (client = accept(listener, 0, 0)) >= 0; close(client)) {
        char request[4096];
        read(client, request, sizeof request);
        write(client, answer, strlen(answer));
    }
    return 1;
}
"""


def compile_for_arm(directory: Path) -> bytes:
    """Return a static AArch64 program that answers HTTP."""
    source, program = directory / "answer.c", directory / "answer"
    source.write_text(PROGRAM)
    options = ["-target", "aarch64-linux-musl", "-static", "-s", "-O2", "-w"]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *options, "-o", program, source], check=True)
    return program.read_bytes()


def told_to_the_kernel(home: Path) -> bool:
    """Say whether a server of this home has told the kernel how to run programs of another processor."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", place], check=True)
        try:
            return (Path(place) / foreign_programs._name(home)).exists()
        finally:
            subprocess.run(["umount", place], check=True)


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that emulates AArch64 and builds on the host; it prepares no microVMs."""
    with Server(make_home(), engine="qemu", arm64="emulate", builds="host", warm_pool="0").running() as server:
        yield server


@pytest.fixture(scope="module")
def maker(own: Server) -> ImageMaker:
    return ImageMaker(Clients.of(own), own.endpoints["region"])


@pytest.fixture(scope="module")
def image(maker: ImageMaker) -> Image:
    image = maker.start("arm", probe_files(DOCKERFILE), cpuConfigurations=ARM)
    assert maker.wait(image, FIRST_BUILD_S) == "CREATED", "\n".join(maker.log(image, "FAILED"))
    return image


@pytest.fixture(scope="module")
def microvm(own: Server, image: Image) -> Microvm:
    microvm = Microvm.launch(Gateway(own, Clients.of(own)), image)
    microvm.wait_state("RUNNING")
    return microvm


def test_the_build_is_for_arm_and_says_what_that_means(maker: ImageMaker, image: Image) -> None:
    build = maker.find_build(image)
    assert (build["architecture"], build["chipset"]) == ("ARM_64", "GRAVITON")
    lines = maker.log(image, "SUCCESSFUL")
    assert any("emulated" in line and "no security boundary" in line for line in lines)
    assert not any("--platform" in line for line in lines), "it is what was asked for"


def test_the_guest_is_an_aarch64_machine(microvm: Microvm) -> None:
    assert microvm.shell("uname -m; dpkg --print-architecture") == "aarch64\narm64\n"
    assert microvm.shell("cat /built-on") == "aarch64\n42"


def test_it_goes_on_where_it_was_after_a_suspend(microvm: Microvm) -> None:
    microvm.shell("echo kept > /data/file; echo kept > /dev/shm/memory")
    counted = microvm.get()["count"]
    before, at = float(microvm.shell("cut -d' ' -f1 /proc/uptime")), time.monotonic()
    process = Path(f"/proc/{microvm.vmm_pid}")
    assert (process / "comm").read_text().startswith("qemu-system-aar"), "as the commands that count VMMs know it"
    microvm.suspend()
    assert not process.exists()
    time.sleep(5)
    microvm.resume()
    assert microvm.get()["count"] == counted + 1
    assert microvm.shell("cat /data/file /dev/shm/memory") == "kept\nkept\n"
    told, passed = float(microvm.shell("cut -d' ' -f1 /proc/uptime")) - before, time.monotonic() - at
    assert 5 <= told <= passed + 1, "its clock went on while it was suspended, and no faster than ours"


def test_its_timers_and_its_wall_clock_go_right(microvm: Microvm) -> None:
    told = microvm.shell("read a _ < /proc/uptime; sleep 2; read b _ < /proc/uptime; echo $a $b")
    before, after = map(float, told.split())
    assert 2 <= after - before < 2 + limit_s(10)
    assert abs(int(microvm.shell("date +%s")) - time.time()) < limit_s(10)


def test_a_fork_has_what_its_source_had(own: Server, microvm: Microvm) -> None:
    microvm.shell("echo forked > /dev/shm/memory; echo forked > /data/file")
    counted = microvm.get()["count"]
    gateway = Gateway(own, Clients.of(own))
    (item,) = gateway.clients.emberbox.fork_microvm(microvmIdentifier=microvm.id, count=1)["items"]
    fork = Microvm(item["microvmId"], item["endpoint"], gateway)
    fork.wait_state("RUNNING")
    assert fork.shell("cat /data/file /dev/shm/memory; uname -m") == "forked\nforked\naarch64\n"
    assert fork.get()["count"] == counted + 1
    fork.terminate()
    fork.wait_ended()


def test_images_for_the_machine_itself_are_built_beside_it(maker: ImageMaker) -> None:
    image = maker.build("native", probe_files())
    assert maker.find_build(image)["architecture"] == "X86_64"
    both = maker.build("both", probe_files(), cpuConfigurations=[*ARM, {"architecture": "X86_64"}])
    assert maker.find_build(both)["architecture"] == "X86_64", "what the machine has is not emulated"


async def test_the_tiny_guest_of_arm_runs_in_the_cage(own: Server, image: Image) -> None:
    """On a machine with AArch64 and KVM it shows whether that is of use; here, that it is right but for KVM."""
    program = find_program(own.home)
    cage = Cage(1_900_000_123, None)
    engine = await run_tiny_guest(cage, native.memory_shim_path(), "tcg", ARM_64, program)
    assert engine.accelerator == "tcg"


def test_the_next_server_takes_it_over(own: Server, microvm: Microvm) -> None:
    """One that runs goes on without a server, one that is suspended is resumed; RUN steps need the kernel anew."""
    counted, pid = microvm.get()["count"], microvm.vmm_pid
    own.kill()
    assert told_to_the_kernel(own.home), "a killed server takes nothing back"
    own.start()
    assert not told_to_the_kernel(own.home), "the next one does"
    microvm = again(microvm, Gateway(own, Clients.of(own)))
    assert (microvm.get()["count"], microvm.vmm_pid) == (counted + 1, pid)
    own.stop()  # and suspends it
    own.start()
    microvm = again(microvm, Gateway(own, Clients.of(own)))
    microvm.resume()
    assert microvm.get()["count"] == counted + 2


def test_a_dockerfile_chooses_by_its_platform(own: Server) -> None:
    """RUN steps need the kernel to be told anew: the server is another than the one that built before."""
    maker = ImageMaker(Clients.of(own), own.endpoints["region"])
    image = maker.build("chosen", probe_files(DOCKERFILE))
    assert maker.find_build(image)["architecture"] == "ARM_64"
    assert any("no security boundary" in line for line in maker.log(image, "SUCCESSFUL"))
    own.stop()
    assert not told_to_the_kernel(own.home)
    own.start()


def test_in_sandboxes_images_are_taken_and_dockerfiles_are_not(tmp_path: Path) -> None:
    layer = make_tar(entry("answer", compile_for_arm(tmp_path)))
    there = oci_archive(MadeImage([layer], settings={"Cmd": ["/answer"]}, platform="linux/arm64"))
    with Server(make_home(), engine="qemu", arm64="emulate", builds="sandbox", warm_pool="0").running() as server:
        gateway = Gateway(server, Clients.of(server))
        maker = ImageMaker(gateway.clients, server.endpoints["region"])
        taken = maker.build("taken", there, cpuConfigurations=ARM)
        refused = maker.start("refused", probe_files(DOCKERFILE), cpuConfigurations=ARM)
        assert maker.wait(refused, BUILD_TIMEOUT_S) == "CREATE_FAILED"
        assert any("EMBERBOX_BUILDS=host" in line for line in maker.log(refused, "FAILED"))
        microvm = Microvm.launch(gateway, taken)
        microvm.wait_state("RUNNING")
        assert microvm.get() == {"from": "ARM64"}
        assert not told_to_the_kernel(server.home), "no program of it ran on this machine"
