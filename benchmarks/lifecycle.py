"""How long a microVM's life takes on QEMU, and what it costs: medians of one run (engines.py compares engines).

    .venv/bin/python benchmarks/lifecycle.py [--runs 10] [--sizes 512,2048,8192] [--only pool,forks,...]

Starts a server with a home of its own, builds examples/flask in each size through the API with boto3, and measures
from outside, as a client sees it. "own part" is the server's own figure: from RunMicrovm to the guest running. What
is about many microVMs (crowds.py) is measured with the first size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench import MIB, Client, Figures, running_server
from crowds import measure_burst, measure_crowd, measure_forks, measure_pool, measure_repeated_suspends

from emberbox.guest import http
from emberbox.guest.output import DropOutput
from emberbox.guest.protocol import Application
from emberbox.host import disk, native
from emberbox.host.kernel import ensure_kernel
from emberbox.host.space import DiskSpace
from emberbox.host.users import UserPool
from emberbox.images.pipeline import DEFAULT_CAPABILITIES
from emberbox.machine.connections import GUEST_RESOLV_CONF, Connector
from emberbox.machine.guests import GuestHost
from emberbox.model.sizes import SIZES
from emberbox.vmm.base import MachineShape
from emberbox.vmm.engine import Engine
from emberbox.vmm.paged import memory
from emberbox.vmm.paged.pagemap import find_changed_runs
from emberbox.vmm.qemu import QemuDriver
from emberbox.vmm.qemu.probe import find_version

DIRTY_MIB = (5, 50, 200)
CROWD = (1, 10, 25, 50, 100)
PARTS = ("launch", "pool", "suspend", "cold", "repeat", "forks", "burst", "crowd")


def measure_launches(client: Client, arn: str, size: int, runs: int, figures: Figures) -> None:
    """Launch to first answer, suspend and resume of an otherwise idle application."""
    for _ in range(runs):
        started = time.perf_counter()
        microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
        token = client.token(microvm_id)
        client.get(token)
        figures.add(f"{size} MiB: RunMicrovm to first answer (s)", time.perf_counter() - started)
        started = time.perf_counter()
        client.get(token)
        figures.add(f"{size} MiB: second answer (s)", time.perf_counter() - started)
        client.terminate(microvm_id)
        figures.add(f"{size} MiB: of which own part, call to guest running (s)", client.own_part(microvm_id))


def measure_suspends(client: Client, arn: str, size: int, dirty: int, runs: int, figures: Figures) -> None:
    """Suspend and resume after the application has written to `dirty` MiB of memory."""
    name = f"{size} MiB, {dirty} MiB dirtied"
    for _ in range(runs):
        microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
        token = client.token(microvm_id)
        client.get(token, f"/dirty?mib={dirty}")
        directory = client.home / "microvms" / microvm_id
        changed = changed_bytes(directory)
        started = time.perf_counter()
        client.api.suspend_microvm(microvmIdentifier=microvm_id)
        figures.add(f"{name}: suspend (s)", time.perf_counter() - started)
        written = disk.stored_bytes(directory / "memory.layer") + (directory / "devices.saved").stat().st_size
        figures.add(f"{name}: written at suspend (MiB)", written / MIB)
        figures.add(f"{name}: written / changed since launch (ratio)", written / changed)
        started = time.perf_counter()
        client.api.resume_microvm(microvmIdentifier=microvm_id)
        client.get(token)
        figures.add(f"{name}: resume to first answer (s)", time.perf_counter() - started)
        client.terminate(microvm_id)


def changed_bytes(directory: Path) -> int:
    """Return how much memory a running microVM has changed since its launch, by the kernel's page map."""
    pid = int(json.loads((directory / "vmm.json").read_text())["pid"])
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if path and path[0].endswith("/memory"):
            address = int(addresses.split("-")[0], 16) - int(offset, 16)
            runs = find_changed_runs(pid, address, Path(path[0]).stat().st_size)
            return memory.count_pages(runs) * memory.PAGE_BYTES
    sys.exit("the microVM's memory is not mapped")


async def measure_cold_boots(home: Path, accelerator: str, size: int, runs: int, figures: Figures) -> None:
    """Boot the same root file system from its kernel, to the application's first answer."""
    root = next(path for path in home.glob("images/*/1.0/root.erofs"))
    kernel = await ensure_kernel(home / "kernel")
    driver = QemuDriver(Engine("QEMU", await find_version(), accelerator), native.memory_shim_path(), native.tsc_khz())
    users = UserPool(1_900_000_000) if os.geteuid() == 0 else None
    guests = GuestHost(driver, Connector(None), users, None, DiskSpace(home))
    shape = MachineShape(SIZES[size].vcpu_count, SIZES[size].mem_size_mib)
    application = Application(
        ("python3", "app.py"), (("PATH", os.defpath), ("HOME", "/")), "/app", 33, 33, (), DEFAULT_CAPABILITIES,
        privileged=False, hostname="cold", resolv_conf=GUEST_RESOLV_CONF,
    )  # fmt: skip
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            directory = Path(scratch)
            await disk.make_writable(directory / "disk", SIZES[size].disk_bytes)
            started = time.perf_counter()
            guest = await guests.boot(directory, root, shape, kernel, application, DropOutput())
            while True:
                try:
                    await http.post(guest.agent, 8080, "/", b"", {}, 60)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
            figures.add(f"{size} MiB: cold boot to first answer (s)", time.perf_counter() - started)
            await guest.end()


def measure_sizes(client: Client, arns: dict[int, str], parts: set[str], runs: int, figures: Figures) -> None:
    """What is measured in every size."""
    for size, arn in arns.items():
        if "launch" in parts:
            measure_launches(client, arn, size, runs, figures)
        if "suspend" in parts:
            for dirty in DIRTY_MIB:
                measure_suspends(client, arn, size, dirty, runs, figures)
        if "pool" in parts:
            measure_pool(client, arn, size, runs, figures)
        print(f"{size} MiB: done", flush=True)


def measure_crowds(client: Client, arn: str, size: int, parts: set[str], runs: int, figures: Figures) -> None:
    """What is about many microVMs."""
    if "repeat" in parts:
        measure_repeated_suspends(client, arn, size, 10, figures)
    if "forks" in parts:
        for _ in range(runs):
            measure_forks(client, arn, size, 10, figures)
        measure_forks(client, arn, size, 100, figures)
    if "burst" in parts:
        measure_burst(client, arn, size, 50, figures)
    if "crowd" in parts:
        measure_crowd(client, arn, size, CROWD, figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes", default="512,2048,8192")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--home", type=Path, help="keep and reuse this directory instead of a temporary one")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    parts = set(options.only.split(","))
    home = options.home or Path(tempfile.mkdtemp(prefix="emberbox-bench-"))
    home.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    try:
        with running_server(home, {"EMBERBOX_ENGINE": "qemu"}) as endpoints:
            client = Client(home, endpoints)
            client.upload_example()
            arns = {size: client.build(size) for size in sizes}
            measure_sizes(client, arns, parts, options.runs, figures)
            measure_crowds(client, arns[sizes[0]], sizes[0], parts, options.runs, figures)
            for size in sizes if "cold" in parts else ():
                asyncio.run(measure_cold_boots(home, endpoints["accelerator"], size, options.runs, figures))
            for arn in arns.values():
                client.api.delete_microvm_image(imageIdentifier=arn)
        if "launch" in parts:
            name = "{} MiB: of which own part, call to guest running (s)"
            ratio = figures.median(name.format(sizes[-1])) / figures.median(name.format(sizes[0]))
            print(f"\nlaunch, {sizes[-1]} MiB against {sizes[0]} MiB (ratio of medians): {ratio:.2f}")
    finally:
        figures.print()  # also what was measured before something failed
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
