"""What the benchmarks share: figures, a server with a home of its own, and an ordinary client of it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import uuid
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import urllib3

from emberbox.cli.context import get_server
from emberbox.keys import read_credential

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "flask"
MIB = 1 << 20
READY_TIMEOUT_S = 300


class Figures:
    """Collects samples and prints them as a table."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        self._samples[name].append(value)

    def names(self) -> list[str]:
        return list(self._samples)

    def median(self, name: str) -> float:
        return statistics.median(self._samples[name])

    def print(self) -> None:
        print(f"\n{'':<58}{'median':>10}{'min':>10}{'max':>10}{'runs':>6}")
        for name, values in self._samples.items():
            low, high = min(values), max(values)
            print(f"{name:<58}{statistics.median(values):>10.3f}{low:>10.3f}{high:>10.3f}{len(values):>6}")


@contextmanager
def running_server(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Run a server, with settings by their variables, for as long as the block lasts; yield its endpoints."""
    environment = os.environ | {
        "EMBERBOX_HOME": str(home),
        "EMBERBOX_API_PORT": "0",
        "EMBERBOX_CONSOLE_PORT": "0",
        "EMBERBOX_GATEWAY_PORT": "0",
        "EMBERBOX_HTTPS_PORT": "0",
        "EMBERBOX_S3_PORT": "0",
        "EMBERBOX_RATE_LIMITS": "off",  # what is measured is this server, not what AWS allows
        **(settings or {}),
    }
    endpoints = home / "runtime" / "endpoints.json"
    endpoints.unlink(missing_ok=True)  # an earlier server's
    with (home / "server.log").open("ab") as log:
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
        self.emberbox = get_server(home).client("emberbox")
        self._pool = urllib3.PoolManager(ca_certs=endpoints["ca_bundle"])
        self._gateway = endpoints["gateway"]
        self._region = endpoints["region"]

    def upload_example(self) -> None:
        self.upload({path.name: path.read_bytes() for path in EXAMPLE.iterdir()})

    def upload(self, files: Mapping[str, bytes]) -> None:
        """Store the artifact that `build` makes an image of."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as writer:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name)
                entry.create_system, entry.external_attr = 3, 0o100644 << 16  # else only its owner could read it
                writer.writestr(entry, content)
        self._s3.create_bucket(Bucket=self._name)
        self._s3.put_object(Bucket=self._name, Key="code.zip", Body=archive.getvalue())

    def build(self, size: int) -> str:
        answer = self.api.create_microvm_image(
            name=f"{self._name}-{size}",
            baseImageArn=f"arn:aws:lambda:{self._region}:aws:microvm-image:debian12-1",
            buildRoleArn="arn:aws:iam::000000000000:role/build",
            codeArtifact={"uri": f"s3://{self._name}/code.zip"},
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

    def get(self, token: str, path: str = "/") -> bytes:
        url = f"https://{self._gateway}{path}"
        answer = self._pool.request("GET", url, headers={"X-aws-proxy-auth": token}, retries=False, timeout=60)
        if answer.status != 200:
            sys.exit(f"GET {path} answered {answer.status}")
        return bytes(answer.data)

    def terminate(self, *microvms: str) -> None:
        for microvm_id in microvms:
            self.api.terminate_microvm(microvmIdentifier=microvm_id)
        self.wait_all(microvms, "TERMINATED")

    def wait(self, what: str, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not condition():
            if time.monotonic() > deadline:
                sys.exit(f"after {READY_TIMEOUT_S} s it is not so that {what}; see {self.home}")
            time.sleep(0.02)

    def wait_all(self, microvms: Iterable[str], state: str) -> None:
        """Wait until all are in a state; one that has ended instead is an error."""
        left = set(microvms)

        def reached() -> bool:
            for page in self.api.get_paginator("list_microvms").paginate():
                for item in page["items"]:
                    if item["microvmId"] in left and item["state"] in (state, "TERMINATED"):
                        if item["state"] != state:
                            sys.exit(f"{item['microvmId']} has ended; see {self.home}")
                        left.remove(item["microvmId"])
            return not left

        self.wait(f"all are {state}", reached)

    def host(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.emberbox.describe_host()
        return answer

    def usage(self, microvms: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what the server says that each of some microVMs uses."""
        found = {row["microvmId"]: row for row in self.host()["microvms"]}
        return {microvm_id: found[microvm_id] for microvm_id in microvms}

    def launch_times(self, microvms: Iterable[str]) -> list[float]:
        """Return, by the server's own events, how many seconds each was PENDING."""
        wanted = set(microvms)
        events = self.emberbox.list_events(maxResults=1000)["items"]
        return [
            event["durationInMilliseconds"] / 1000
            for event in events
            if event["microvmId"] in wanted and (event.get("fromState"), event["state"]) == ("PENDING", "RUNNING")
        ]

    def own_part(self, microvm_id: str) -> float:
        """Return what the server's log says of a launch, in seconds."""
        found = re.search(rf"{microvm_id} runs after (\d+) ms", self.log())
        assert found, "the server's log does not tell of the launch"
        return int(found[1]) / 1000

    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")

    def vmm_pid(self, microvm_id: str) -> int:
        return int(json.loads((self.home / "microvms" / microvm_id / "vmm.json").read_text())["pid"])
