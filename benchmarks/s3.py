"""How fast the embedded S3 takes and gives: one large object, and many small ones.

    python benchmarks/s3.py [--size MIB] [--rclone PATH]

With `--rclone`, `rclone serve s3` is measured beside it, in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.s3 import serve_s3

SMALL = 200


def client(url: str, key: str, secret: str) -> Any:
    config = Config(
        signature_version="s3v4", s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
    )
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=config,
    )


def measure(name: str, s3: Any, size: int, content: bytes) -> None:
    s3.create_bucket(Bucket="bench")

    def rate(work: Callable[[], object]) -> str:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return f"{size / statistics.median(times):.0f} MiB/s"

    url = s3.generate_presigned_url("put_object", {"Bucket": "bench", "Key": "large"})
    get = s3.generate_presigned_url("get_object", {"Bucket": "bench", "Key": "large"})
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        curl = ["curl", "-sSf", "-o", os.devnull]
        put = rate(lambda: subprocess.run([*curl, "-T", file.name, "-H", "Expect:", url], check=True))
        got = rate(lambda: subprocess.run([*curl, get], check=True))
    by_boto3 = rate(lambda: s3.put_object(Bucket="bench", Key="signed", Body=io.BytesIO(content)))
    start = time.perf_counter()
    for number in range(SMALL):
        s3.put_object(Bucket="bench", Key=f"small/{number}", Body=b"x" * 1000)
    small_put = (time.perf_counter() - start) / SMALL * 1000
    start = time.perf_counter()
    for number in range(SMALL):
        s3.get_object(Bucket="bench", Key=f"small/{number}")["Body"].read()
    small_get = (time.perf_counter() - start) / SMALL * 1000
    print(
        f"{name}: put {put}, get {got} (curl, presigned); put {by_boto3} (boto3, signed); "
        f"1 kB: put {small_put:.1f} ms, get {small_get:.1f} ms",
        flush=True,
    )


@contextlib.contextmanager
def rclone(program: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as directory:
        command = [program, "serve", "s3", directory, "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off"]
        command += ["--dir-cache-time", "1ms", "--no-cleanup", "--auth-key", "access,secret"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="MiB of the large object")
    parser.add_argument("--rclone", help="measure this rclone too")
    asked = parser.parse_args()
    content = os.urandom(1 << 20) * asked.size
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        async with serve_s3(Path(directory) / "home") as world:
            print(f"embedded S3: ready after {time.perf_counter() - start:.2f} s")
            who = world.home.operator
            s3 = client(world.endpoint_url, who.access_key_id, who.secret_access_key)
            await asyncio.to_thread(measure, "embedded S3", s3, asked.size, content)
            memory = Path(f"/proc/{world.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
            print(f"embedded S3: at most {int(memory) >> 10} MiB of memory")
    if asked.rclone:
        with rclone(asked.rclone) as url:
            await asyncio.to_thread(measure, "rclone", client(url, "access", "secret"), asked.size, content)


if __name__ == "__main__":
    asyncio.run(main())
