"""The engines side by side, with a plain container as the floor and a cold boot as the ceiling: medians of one run.

    .venv/bin/python benchmarks/engines.py [--runs 10] [--engines qemu,gvisor] [--forks 10,100] [--crowd 50]

For each engine a server with a home of its own is started, twice: without a warm pool, and with one. The application is
examples/flask with two loops added, whose times it tells itself: one that computes, one that makes, reads and removes
files. The container is runc's, of the same root file system as it is in QEMU's image; it starts the application anew.
As root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench import EXAMPLE, MIB, Client, Figures, running_server
from crowds import measure_burst, measure_crowd, measure_forks, measure_pool
from lifecycle import measure_cold_boots, measure_launches

SIZE = 512
DIRTY_MIB = (5, 50, 200)
BURST = 50
WEB_USER = 33
"""www-data, as whom the example runs."""

LOOPS = ("compute (s)", "files (s)")
ROUTES = """

@app.get("/compute")
def compute():
    started = time.perf_counter()
    total = 0
    for number in range(2_000_000):
        total += number * number % 7
    return jsonify(seconds=time.perf_counter() - started)


@app.get("/files")
def files():
    started = time.perf_counter()
    for number in range(500):
        path = LOG.with_name(f"file-{number}")
        path.write_bytes(b"x" * 4096)
        path.read_bytes()
        path.unlink()
    return jsonify(seconds=time.perf_counter() - started)
"""


def application() -> dict[str, bytes]:
    """Return the example's files, with the loops, and ports that its environment may choose."""
    files = {path.name: path.read_bytes() for path in EXAMPLE.iterdir() if path.is_file()}
    text = files["app.py"].decode()
    for name, port in (("PORT", 8080), ("HOOK_PORT", 9000)):
        text = text.replace(f"{name} = {port}\n", f'{name} = int(os.environ.get("{name}", {port}))\n', 1)
    before, main, after = text.partition("\n\nif __name__")
    files["app.py"] = (before + ROUTES + main + after).encode()
    return files


def measure_loops(client: Client, arn: str, runs: int, figures: Figures) -> None:
    """Run each loop in one microVM; its application tells how long it took."""
    microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
    token = client.token(microvm_id)
    for _ in range(runs):
        for loop in LOOPS:
            figures.add(loop, json.loads(client.get(token, f"/{loop.split()[0]}"))["seconds"])
    client.terminate(microvm_id)


def measure_suspends(client: Client, arn: str, runs: int, figures: Figures) -> None:
    """Suspend and resume after the application has written to some MiB of memory."""
    for dirty in DIRTY_MIB:
        for _ in range(runs):
            microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
            token = client.token(microvm_id)
            client.get(token, f"/dirty?mib={dirty}")
            started = time.perf_counter()
            client.api.suspend_microvm(microvmIdentifier=microvm_id)
            figures.add(f"{dirty} MiB dirtied: suspend (s)", time.perf_counter() - started)
            written = re.findall(rf"{microvm_id} was suspended.*, (\d+) bytes", client.log())
            figures.add(f"{dirty} MiB dirtied: memory written (MiB)", int(written[-1]) / MIB)
            started = time.perf_counter()
            client.api.resume_microvm(microvmIdentifier=microvm_id)
            client.get(token)
            figures.add(f"{dirty} MiB dirtied: resume to first answer (s)", time.perf_counter() - started)
            client.terminate(microvm_id)


def measure_engine(engine: str, home: Path, options: argparse.Namespace, figures: Figures) -> dict[str, Any]:
    """Measure all of an engine; return its server's endpoints."""
    chosen = {"EMBERBOX_ENGINE": engine}
    with running_server(home, chosen | {"EMBERBOX_WARM_POOL": "0"}) as endpoints:
        client = Client(home, endpoints)
        client.upload(application())
        arn = client.build(SIZE)
        measure_launches(client, arn, SIZE, options.runs, figures)
        measure_loops(client, arn, options.runs, figures)
        measure_suspends(client, arn, options.runs, figures)
        for count in options.forks:
            measure_forks(client, arn, SIZE, count, figures)
        measure_burst(client, arn, SIZE, BURST, figures)
        measure_crowd(client, arn, SIZE, (options.crowd,), figures)
    with running_server(home, chosen) as endpoints:
        measure_pool(Client(home, endpoints), arn, SIZE, options.runs, figures)
    return endpoints


def measure_container(home: Path, runs: int, figures: Figures) -> None:
    """Start the application in a plain container, and run the loops in it."""
    image = next(path for path in home.glob("images/*/1.0/root.erofs"))
    with tempfile.TemporaryDirectory(dir=home) as name:
        bundle = Path(name)
        call("fsck.erofs", f"--extract={bundle / 'rootfs'}", str(image))
        port, hook_port = free_port(), free_port()
        describe_container(bundle, port, hook_port)
        for number in range(runs):
            container = f"emberbox-bench-{os.getpid()}-{number}"
            started = time.perf_counter()
            with (bundle / "log").open("wb") as log:
                process = subprocess.Popen(["runc", "run", "-b", name, container], stdout=log, stderr=log)
            try:
                answer_of(process, port, "/")
                figures.add("container: start to first answer (s)", time.perf_counter() - started)
                for loop in LOOPS:
                    figures.add(loop, json.loads(answer_of(process, port, f"/{loop.split()[0]}"))["seconds"])
            finally:
                call("runc", "kill", container, "KILL")
                process.wait(30)


def describe_container(bundle: Path, port: int, hook_port: int) -> None:
    """Write what runc runs: the application as its image has it, on the host's network."""
    call("runc", "spec", "-b", str(bundle))
    path = bundle / "config.json"
    spec = json.loads(path.read_text())
    spec["process"] |= {
        "terminal": False,
        "args": ["python3", "app.py"],
        "cwd": "/app",
        "user": {"uid": WEB_USER, "gid": WEB_USER},
        "env": [f"PATH={os.defpath}", f"PORT={port}", f"HOOK_PORT={hook_port}"],
    }
    spec["root"]["readonly"] = False
    spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "network"]
    path.write_text(json.dumps(spec))


def answer_of(process: subprocess.Popen[bytes], port: int, path: str) -> bytes:
    """Ask the container's application until it answers."""
    while process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer,
        ):
            return bytes(answer.read())
        time.sleep(0.005)
    sys.exit("the container has ended")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def call(*command: str) -> None:
    """Run a tool; when it fails, so do we."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def print_table(columns: dict[str, Figures]) -> None:
    """Print medians, a column for each engine."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures.names())
    print(f"\n{'medians':<66}" + "".join(f"{column:>12}" for column in columns))
    for name in names:
        cells = [f"{figures.median(name):.3f}" if name in figures.names() else "" for figures in columns.values()]
        print(f"{name:<66}" + "".join(f"{cell:>12}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=["qemu", "gvisor"])
    parser.add_argument("--forks", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--crowd", type=int, default=50)
    options = parser.parse_args()
    columns: dict[str, Figures] = {}
    scratch = Path(tempfile.mkdtemp(prefix="emberbox-bench-"))
    try:
        for engine in options.engines:
            columns[engine] = Figures()
            home = scratch / engine
            home.mkdir()
            endpoints = measure_engine(engine, home, options, columns[engine])
            print(f"{engine}: done", flush=True)
            if engine == "qemu":
                columns["container"], columns["cold boot"] = Figures(), Figures()
                measure_container(home, options.runs, columns["container"])
                boots = measure_cold_boots(home, endpoints["accelerator"], SIZE, options.runs, columns["cold boot"])
                asyncio.run(boots)
    finally:
        print_table(columns)  # also what was measured before something failed
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
