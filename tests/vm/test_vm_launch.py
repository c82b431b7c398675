"""Launch: a microVM of its own out of a shared snapshot."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.engines import ENGINE
from support.guests import Microvm
from support.images import Image, ImageMaker
from support.server import Server
from support.vm_bench import find_root

pytestmark = pytest.mark.vm

Launch = Callable[..., Microvm]
CLOCK_TOLERANCE_S = 2.0


PAGE_BYTES = 4096


def checksum(path: Path) -> str:
    """Return a checksum of a sparse file: its pages that are not all zeros, and where they are.

    Where its holes are does not count: on a tmpfs, reading a hole through a mapping turns it into a page of zeros.
    """
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        position, size = 0, path.stat().st_size
        while position < size:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:  # only a hole is left
                break
            end = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            position -= position % PAGE_BYTES
            while position < end:
                page = os.pread(file.fileno(), PAGE_BYTES, position)
                if any(page):
                    digest.update(f"{position} ".encode() + page)
                position += PAGE_BYTES
    return digest.hexdigest()


def snapshot_of(image: Image, server: Server) -> dict[str, str]:
    """Return the checksums of the files that an image consists of."""
    directory = find_root(server, image).parent
    files = {path.name: checksum(path) for path in sorted(directory.iterdir()) if path.is_file()}
    described = json.loads((directory / "snapshot.json").read_text().partition("\n")[0])
    assert files.keys() >= {"snapshot.json", *described["files"]}
    return files


def test_the_build_log_tells_every_step(images: ImageMaker, flask_image: Image) -> None:
    """The log of a successful build holds each step in order, the Dockerfile's output and the application's."""
    lines = images.log(flask_image, "SUCCESSFUL")
    steps = ["Fetching s3://", "Building the Dockerfile", "COPY app.py", "Packing", "Booting a microVM", "SUCCESSFUL"]
    places = [next(i for i, line in enumerate(lines) if step in line) for step in steps]
    assert places == sorted(places)
    assert "listening on 8080, hooks on 9000" in lines
    assert "hook ready" in lines


def test_a_build_reports_its_measured_sizes(images: ImageMaker, flask_image: Image) -> None:
    """A successful build says how large its memory, code and disk are."""
    build = images.find_build(flask_image)
    assert build["buildState"] == "SUCCESSFUL"
    sizes = build["snapshotBuild"]
    assert 10_000_000 < sizes["memorySnapshotSizeInBytes"] < 2048 << 20
    assert 10_000_000 < sizes["codeInstallSizeInBytes"] < 1_000_000_000
    assert 0 <= sizes["diskSnapshotSizeInBytes"] < 1_000_000_000
    assert (sizes["diskSnapshotSizeInBytes"] == 0) is ENGINE.disk_is_memory


def test_the_guest_runs_its_own_kernel(probe: Microvm, server: Server) -> None:
    """The kernel is the one under the home or the engine's own, and not the host's."""
    release = probe.shell("uname -r").strip()
    if ENGINE.kernel_is_debians:
        assert (server.home / f"kernel/boot/vmlinuz-{release}").exists()
    else:
        assert release != os.uname().release
    host_booted = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert probe.shell("cat /proc/sys/kernel/random/boot_id").strip() != host_booted


def test_the_clock_is_right_after_a_launch(microvm: Microvm) -> None:
    """A guest from a snapshot has the time of now."""
    before = time.time()
    told = microvm.get()["time"]
    assert before - CLOCK_TOLERANCE_S < told < time.time() + CLOCK_TOLERANCE_S


def test_the_clock_is_right_after_launches_that_had_to_wait_for_each_other(launch: Launch, flask_image: Image) -> None:
    """More at once than are prepared, and than are started at a time: the time is that of the end of the wait."""
    microvms = [launch(flask_image, wait=False) for _ in range(6)]
    for microvm in microvms:
        microvm.wait_state("RUNNING")
        before = time.time()
        told = microvm.get()["time"]
        assert before - CLOCK_TOLERANCE_S < told < time.time() + CLOCK_TOLERANCE_S


def test_the_host_name_is_the_microvm_id(microvm: Microvm) -> None:
    """The guest is named after its microVM."""
    assert microvm.get()["hostname"] == microvm.id


def test_the_machine_id_is_fresh_in_every_microvm(launch: Launch, probe_image: Image) -> None:
    """Two microVMs of one image have machine ids of their own, in the form of machine-id(5)."""
    ids = [launch(probe_image).shell("cat /etc/machine-id").strip() for _ in range(2)]
    assert ids[0] != ids[1]
    assert all(len(text) == 32 and int(text, 16) for text in ids)


def test_the_application_gets_the_variables_of_aws_and_no_credentials(microvm: Microvm, flask_image: Image) -> None:
    """The injected variables are there, and nothing that opens an account."""
    assert microvm.get("/env") == {
        "AWS_LAMBDA_MICROVM_IMAGE_NAME": flask_image.name,
        "AWS_LAMBDA_MICROVM_IMAGE_ARN": flask_image.arn,
        "AWS_LAMBDA_MICROVM_IMAGE_VERSION": "1.0",
        "AWS_REGION": "us-east-1",
    }


def test_the_guest_has_the_memory_and_processors_of_its_size(probe: Microvm) -> None:
    """The 512 MiB size is 1 processor and 2 GiB at its peak, as on AWS."""
    assert probe.shell("nproc").strip() == "1"
    kilobytes = int(probe.shell("grep MemTotal /proc/meminfo").split()[1])
    assert 1900 << 10 < kilobytes <= 2048 << 10


@pytest.mark.both_engines
def test_two_microvms_of_one_image_share_nothing(launch: Launch, flask_image: Image) -> None:
    """Counter, file and random numbers belong to each; what was made before the snapshot is the same in both."""
    one, other = launch(flask_image), launch(flask_image)
    for _ in range(3):
        seen = one.get()
    first = other.get()
    assert (seen["count"], seen["file"]) == (3, 3)
    assert (first["count"], first["file"]) == (1, 1)
    assert first["boot"] == seen["boot"]
    assert first["random"] != seen["random"]
    assert first["hostname"] != seen["hostname"]


@pytest.mark.both_engines
def test_a_microvm_changes_nothing_of_its_images_snapshot(launch: Launch, probe_image: Image, server: Server) -> None:
    """Memory, disk, devices and root file system of the image are the same bytes before and after a busy microVM."""
    probe = launch(probe_image)
    before = snapshot_of(probe_image, server)
    probe.shell("dd if=/dev/urandom of=/data/big bs=1M count=20 && rm -rf /usr/share/doc && sync")
    probe.suspend()
    probe.resume()
    probe.shell("sync")
    assert snapshot_of(probe_image, server) == before


def test_an_express_application_works_alike(launch: Launch, express_image: Image) -> None:
    """The Node.js example launches, counts, and comes back from a suspend where it was."""
    microvm = launch(express_image)
    assert [microvm.get()["count"] for _ in range(3)] == [1, 2, 3]
    microvm.suspend()
    microvm.resume()
    seen = microvm.get()
    assert (seen["count"], seen["file"], seen["hostname"]) == (4, 4, microvm.id)
