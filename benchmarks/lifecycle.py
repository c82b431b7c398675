"""How long a microVM's life takes: cold boot, launch, suspend, resume. Prints medians of one run.

    ./run emberbox doctor && .venv/bin/python benchmarks/lifecycle.py [--runs 10] [--sizes 512,2048,8192]

Starts a server with a home of its own, builds examples/flask in each size through the API with boto3, and measures
from outside, as a client sees it. "own part" is the server's own figure: from RunMicrovm to the guest running.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import urllib3

from emberbox.guest import http
from emberbox.guest.protocol import Application
from emberbox.host import disk, memory, native
from emberbox.host.kernel import ensure_kernel
from emberbox.host.pagemap import find_changed_runs
from emberbox.host.users import UserPool
from emberbox.images.pipeline import DEFAULT_CAPABILITIES
from emberbox.keys import read_credential
from emberbox.machine.connections import RESOLV_CONF, connector
from emberbox.machine.guests import GuestHost
from emberbox.model.sizes import SIZES
from emberbox.vmm.base import MachineShape
from emberbox.vmm.qemu import QemuDriver

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "flask"
MIB = 1 << 20
DIRTY_MIB = (5, 50, 200)
READY_TIMEOUT_S = 300


class Figures:
    """Collects samples and prints them as a table."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        self._samples[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self._samples[name])

    def print(self) -> None:
        print(f"\n{'':<58}{'median':>10}{'min':>10}{'max':>10}{'runs':>6}")
        for name, values in self._samples.items():
            low, high = min(values), max(values)
            print(f"{name:<58}{statistics.median(values):>10.3f}{low:>10.3f}{high:>10.3f}{len(values):>6}")


@contextmanager
def running_server(home: Path) -> Iterator[dict[str, Any]]:
    """Run a server for as long as the block lasts; yield its endpoints."""
    environment = os.environ | {
        "EMBERBOX_HOME": str(home),
        "EMBERBOX_API_PORT": "0",
        "EMBERBOX_GATEWAY_PORT": "0",
        "EMBERBOX_S3_PORT": "0",
    }
    endpoints = home / "runtime" / "endpoints.json"
    with (home / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "emberbox.cli.main", "up"]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not endpoints.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the server did not start:\n{(home / 'server.log').read_text()[-3000:]}")
            time.sleep(0.1)
        yield json.loads(endpoints.read_text())
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


class Client:
    """An ordinary client: boto3 for the API, HTTPS through the gateway for the application."""

    def __init__(self, home: Path, endpoints: dict[str, Any]) -> None:
        credential = read_credential(home / "credentials", endpoints["account_id"])
        keys = {
            "region_name": endpoints["region"],
            "aws_access_key_id": credential.access_key_id,
            "aws_secret_access_key": credential.secret_access_key,
        }
        self.home = home
        self._name = f"bench-{uuid.uuid4().hex[:8]}"
        self.api = boto3.client("lambda-microvms", endpoint_url=endpoints["api_url"], **keys)
        self._s3 = boto3.client("s3", endpoint_url=endpoints["s3_url"], **keys)
        self._pool = urllib3.PoolManager(ca_certs=endpoints["ca_bundle"])
        self._gateway = endpoints["gateway"]
        self._region = endpoints["region"]

    def upload_example(self) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as writer:
            for path in EXAMPLE.iterdir():
                writer.write(path, path.name)
        self._s3.create_bucket(Bucket=self._name)
        self._s3.put_object(Bucket=self._name, Key="flask.zip", Body=archive.getvalue())

    def build(self, size: int) -> str:
        answer = self.api.create_microvm_image(
            name=f"{self._name}-{size}",
            baseImageArn=f"arn:aws:lambda:{self._region}:aws:microvm-image:debian12-1",
            buildRoleArn="arn:aws:iam::000000000000:role/build",
            codeArtifact={"uri": f"s3://{self._name}/flask.zip"},
            resources=[{"minimumMemoryInMiB": size}],
        )
        arn: str = answer["imageArn"]
        while (state := self.api.get_microvm_image(imageIdentifier=arn)["state"]) == "CREATING":
            time.sleep(0.2)
        if state != "CREATED":
            sys.exit(f"the image for {size} MiB ended {state}; see {self.home}")
        return arn

    def token(self, microvm_id: str) -> str:
        answer = self.api.create_microvm_auth_token(
            microvmIdentifier=microvm_id, expirationInMinutes=30, allowedPorts=[{"port": 8080}]
        )
        token: str = answer["authToken"]["X-aws-proxy-auth"]
        return token

    def get(self, token: str, path: str = "/") -> None:
        url = f"https://{self._gateway}{path}"
        answer = self._pool.request("GET", url, headers={"X-aws-proxy-auth": token}, retries=False, timeout=60)
        if answer.status != 200:
            sys.exit(f"GET {path} answered {answer.status}")

    def terminate(self, microvm_id: str) -> None:
        self.api.terminate_microvm(microvmIdentifier=microvm_id)
        while self.api.get_microvm(microvmIdentifier=microvm_id)["state"] != "TERMINATED":
            time.sleep(0.05)


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
        figures.add(f"{size} MiB: of which own part, call to guest running (s)", own_part(client.home, microvm_id))


def own_part(home: Path, microvm_id: str) -> float:
    """Return what the server says of a launch, in seconds."""
    found = re.search(rf"{microvm_id} runs after (\d+) ms", (home / "server.log").read_text(errors="replace"))
    assert found, "the server's log does not tell of the launch"
    return int(found[1]) / 1000


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
    driver = QemuDriver(accelerator, native.memory_shim_path(), native.tsc_khz())
    users = UserPool(1_900_000_000) if os.geteuid() == 0 else None
    guests = GuestHost(driver, connector(None), users, None)
    shape = MachineShape(SIZES[size].vcpu_count, SIZES[size].mem_size_mib)
    application = Application(
        ("python3", "app.py"), (("PATH", os.defpath), ("HOME", "/")), "/app", 33, 33, (), DEFAULT_CAPABILITIES,
        privileged=False, hostname="cold", resolv_conf=RESOLV_CONF,
    )  # fmt: skip
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=home) as scratch:
            directory = Path(scratch)
            await disk.make_writable(directory / "disk", SIZES[size].disk_bytes)
            started = time.perf_counter()
            guest = await guests.boot(directory, root, shape, kernel, application, lambda _which, _data: None)
            while True:
                try:
                    await http.post(guest.agent, 8080, "/", b"", {}, 60)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
            figures.add(f"{size} MiB: cold boot to first answer (s)", time.perf_counter() - started)
            await guest.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes", default="512,2048,8192")
    parser.add_argument("--home", type=Path, help="keep and reuse this directory instead of a temporary one")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    home = options.home or Path(tempfile.mkdtemp(prefix="emberbox-bench-"))
    home.mkdir(parents=True, exist_ok=True)
    figures = Figures()
    try:
        with running_server(home) as endpoints:
            client = Client(home, endpoints)
            client.upload_example()
            arns = {size: client.build(size) for size in sizes}
            for size, arn in arns.items():
                measure_launches(client, arn, size, options.runs, figures)
                print(f"{size} MiB: launches done", flush=True)
            for size, arn in arns.items():
                for dirty in DIRTY_MIB:
                    measure_suspends(client, arn, size, dirty, options.runs, figures)
                print(f"{size} MiB: suspends done", flush=True)
            for size in sizes:
                asyncio.run(measure_cold_boots(home, endpoints["accelerator"], size, options.runs, figures))
            for arn in arns.values():
                client.api.delete_microvm_image(imageIdentifier=arn)
        figures.print()
        name = "{} MiB: of which own part, call to guest running (s)"
        ratio = figures.median(name.format(sizes[-1])) / figures.median(name.format(sizes[0]))
        print(f"\nlaunch, {sizes[-1]} MiB against {sizes[0]} MiB (ratio of medians): {ratio:.2f}")
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
