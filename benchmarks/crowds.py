"""Many microVMs at once, and many of one: forks, bursts of launches, what each costs. Run by lifecycle.py."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import MIB, Client, Figures

from emberbox.host.usage import machine_memory
from emberbox.process.adoption import descendants

DIRTY_MIB = 5
IDLE_S = 10.0


def measure_pool(client: Client, arn: str, size: int, runs: int, figures: Figures) -> None:
    """Launches for each of which a prepared microVM is waiting; the first of all makes the pool begin."""
    client.terminate(client.api.run_microvm(imageIdentifier=arn)["microvmId"])
    for _ in range(runs):
        client.wait("a microVM is prepared", lambda: client.host()["pooledMicrovms"])
        started = time.perf_counter()
        microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
        client.get(client.token(microvm_id))
        figures.add(f"{size} MiB, from the pool: RunMicrovm to first answer (s)", time.perf_counter() - started)
        client.terminate(microvm_id)
        figures.add(f"{size} MiB, from the pool: own part, call to guest running (s)", client.own_part(microvm_id))


def measure_repeated_suspends(client: Client, arn: str, size: int, times: int, figures: Figures) -> None:
    """Suspend and resume one microVM again and again, with the same amount of memory dirtied between."""
    microvm_id = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
    token = client.token(microvm_id)
    for number in range(1, times + 1):
        client.get(token, f"/dirty?mib={DIRTY_MIB}")
        started = time.perf_counter()
        client.api.suspend_microvm(microvmIdentifier=microvm_id)
        figures.add(f"{size} MiB, {times} suspends in a row: suspend (s)", time.perf_counter() - started)
        client.api.resume_microvm(microvmIdentifier=microvm_id)
        written = [int(found) for found in re.findall(rf"{microvm_id} was suspended.*, (\d+) bytes", client.log())]
        if number in (1, 2, times):
            figures.add(f"{size} MiB: memory written by suspend number {number} (MiB)", written[-1] / MIB)
    client.terminate(microvm_id)


def measure_forks(client: Client, arn: str, size: int, count: int, figures: Figures) -> None:
    """Fork one running microVM that has dirtied some memory since its launch."""
    source = client.api.run_microvm(imageIdentifier=arn)["microvmId"]
    client.get(client.token(source), f"/dirty?mib={DIRTY_MIB}")
    name = f"{size} MiB, fork of {count}"
    started = time.perf_counter()
    answer = client.emberbox.fork_microvm(microvmIdentifier=source, count=count)
    figures.add(f"{name}: call (s)", time.perf_counter() - started)
    forks = [item["microvmId"] for item in answer["items"]]
    client.wait_all(forks, "RUNNING")
    figures.add(f"{name}: until all run (s)", time.perf_counter() - started)
    figures.add(f"{name}: source stopped (s)", answer["sourceStoppedInMilliseconds"] / 1000)
    started = time.perf_counter()
    client.get(client.token(forks[-1]))
    figures.add(f"{name}: first answer of the last (s)", time.perf_counter() - started)
    client.terminate(source, *forks)


def measure_burst(client: Client, arn: str, size: int, count: int, figures: Figures) -> None:
    """Launch many at once, each as soon as the API takes it."""
    started = time.perf_counter()
    with ThreadPoolExecutor(16) as callers:
        answers = callers.map(lambda _: client.api.run_microvm(imageIdentifier=arn)["microvmId"], range(count))
        microvms = list(answers)
    client.wait_all(microvms, "RUNNING")
    took = time.perf_counter() - started
    latencies = sorted(client.launch_times(microvms))
    name = f"{size} MiB, burst of {count} launches"
    figures.add(f"{name}: throughput (launches/s)", count / took)
    figures.add(f"{name}: RunMicrovm to RUNNING, median (s)", statistics.median(latencies))
    figures.add(f"{name}: RunMicrovm to RUNNING, p99 (s)", latencies[min(count - 1, count * 99 // 100)])
    client.terminate(*microvms)


def measure_crowd(client: Client, arn: str, size: int, steps: Iterable[int], figures: Figures) -> None:
    """Run more and more idle microVMs, measure each crowd, and suspend the last."""
    before = machine_memory().available
    microvms: list[str] = []
    for step in steps:
        while len(microvms) < step:
            microvms.append(client.api.run_microvm(imageIdentifier=arn)["microvmId"])
            client.wait_all(microvms[-1:], "RUNNING")
            client.get(client.token(microvms[-1]))
        _measure_idle(client, microvms, f"{size} MiB, {step} idle", before, figures)
    for microvm_id in microvms:
        client.api.suspend_microvm(microvmIdentifier=microvm_id)
    for usage in client.usage(microvms).values():
        figures.add(f"{size} MiB: disk of a suspended one (MiB)", usage["diskInBytes"] / MIB)
    client.terminate(*microvms)


def _measure_idle(client: Client, microvms: list[str], name: str, before: int, figures: Figures) -> None:
    time.sleep(2)
    first = client.usage(microvms)
    time.sleep(IDLE_S)
    last = client.usage(microvms)
    for microvm_id in microvms:
        used = last[microvm_id]["cpuSeconds"] - first[microvm_id]["cpuSeconds"]
        figures.add(f"{name}: processor time of one (%)", used / IDLE_S * 100)
        figures.add(f"{name}: memory of one, PSS (MiB)", last[microvm_id]["memoryInBytes"] / MIB)
        figures.add(f"{name}: memory of one, not shared (MiB)", _private_bytes(client.vmm_pid(microvm_id)) / MIB)
    taken = before - machine_memory().available
    figures.add(f"{name}: memory of the machine, each (MiB)", taken / len(microvms) / MIB)


def _private_bytes(pid: int) -> int:
    """Return what a process and those that it has started have to themselves."""
    found = 0
    for one in (pid, *(process.pid for process in descendants(pid))):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        found += sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024
    return found
