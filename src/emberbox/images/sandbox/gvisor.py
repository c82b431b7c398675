"""Sandboxes of gVisor: a kernel of their own in a process without rights, on every machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from emberbox import process
from emberbox.host.cgroups import Group, Passed
from emberbox.host.network.slots import (
    DNS_ADDRESS,
    GATEWAY_ADDRESS,
    GATEWAY_MAC,
    GUEST_ADDRESS,
    GUEST_MAC,
)
from emberbox.host.runsc.bundle import (
    NOFILE_MAX,
    Bundle,
    DirectoryRoot,
    HostMount,
    MemoryMount,
    StoreMount,
    write_bundle,
)
from emberbox.host.runsc.command import run_line
from emberbox.images.sandbox.base import Limits, SandboxPlan
from emberbox.images.sandbox.groups import BuildGroups
from emberbox.images.sandbox.usage import Usage, read_usage
from emberbox.model.errors import BuildError
from emberbox.process.watched import Child

WATCH_INTERVAL_S = 0.5
_TAIL_BYTES = 500
_LOG, _PANIC_LOG = "runsc.log", "panic.log"
_GIB = 1 << 30
_TMPFS_BYTES = 1 << 30
_BYTES_OF_TASK = 8 << 20
_LIMITS = {"RLIMIT_NOFILE": NOFILE_MAX, "RLIMIT_FSIZE": (1 << 64) - 1}
"""Of the programs in the sandbox; else they would have the limits of its own processes on the host."""

_OWN_NAMESPACE = Path("/proc/self/ns/net")
_ENTER = """
set -e
while read -r group; do echo 0 > "$group/cgroup.procs"; done < "$2/groups"
mount -t tmpfs none /proc/sys/net/core
if [ -n "$1" ]; then
  nsenter --net="$1" ip -batch "$2/outer" >&2
  nsenter --net="$1" ip link set eth0 netns $$
  ip -batch "$2/inner" >&2
fi
shift 2
exec "$@"
"""
"""Goes into its control groups, and runs in a mount and a network namespace of its own. This release of runsc
takes a network namespace for the host's when net.core has the settings that all have since Linux 6.12: it sees none."""


class GvisorSandbox:
    """Runs each program by a `runsc run` of its own, which leads a process namespace: with it all of it ends.

    Args:
        runsc: returns the program.
        groups: what holds each to its limits; where there are none it is watched.
    """

    def __init__(self, runsc: Callable[[], Awaitable[Path]], groups: BuildGroups) -> None:
        self._runsc = runsc
        self._groups = groups

    async def run(self, plan: SandboxPlan, on_line: process.OnLine) -> None:
        """See `base.Sandbox`."""
        runsc = await self._runsc()
        async with self._groups.around(plan.limits) as group:
            _write_surroundings(plan, group)
            outputs = [share.path for share in plan.shares if share.is_writable and share.path.is_file()]
            watch = _Watch(plan.limits, group, outputs)
            try:
                done = await self._run(runsc, plan, on_line, watch)
            finally:
                await watch.stop()
            watch.check()
        if done.returncode != 0:
            how = process.describe_exit(done.returncode)
            last = _last_words(plan.directory, done)
            raise BuildError("CONTAINER_BUILD_FAILED", f"the sandbox of the build {how}; it said last: {last}")

    async def _run(self, runsc: Path, plan: SandboxPlan, on_line: process.OnLine, watch: _Watch) -> process.Completed:
        directory = plan.directory
        namespace = str(plan.network.namespace) if plan.network and plan.network.namespace else ""
        command = [
            *["prlimit", f"--fsize={_file_bytes(plan.limits)}", "--"],
            *["unshare", "--net", "--", "sh", "-c", _ENTER, "sh", namespace, str(directory)],
            *run_line(
                runsc, directory / "state", directory, directory / _LOG, directory / _PANIC_LOG,
                has_network=bool(namespace),
            ),
        ]  # fmt: skip
        try:
            return await process.run(
                command,
                environment={**os.environ, "TMPDIR": str(directory)},
                timeout=plan.limits.timeout_s,
                on_line=on_line,
                on_start=watch.start,
                enclosed=True,
                check=False,
            )
        except process.CommandError as error:
            if error.returncode is None:
                raise BuildError("CONTAINER_BUILD_FAILED", str(error).replace("prlimit", "the build")) from error
            raise


class _Watch:
    """Ends a sandbox that has taken more than it may."""

    def __init__(self, limits: Limits, group: Group | None, outputs: Sequence[Path]) -> None:
        self._limits = limits
        self._group = group
        self._outputs = outputs
        self._task: asyncio.Task[None] | None = None
        self._passed: str | None = None

    def start(self, child: Child) -> None:
        """Begin to watch a sandbox."""
        self._task = asyncio.create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        while child.returncode is None and self._passed is None:
            self._passed = self._passed_by_output() or await self._passed_by_processes(child.pid)
            await asyncio.sleep(WATCH_INTERVAL_S if self._passed is None else 0)
        await child.kill_group()

    def _passed_by_output(self) -> str | None:
        if sum(path.stat().st_blocks * 512 for path in self._outputs) <= self._limits.disk_bytes:
            return None
        return f"{self._limits.disk_bytes >> 20} MiB of disk (EMBERBOX_BUILD_DISK_BYTES)"

    async def _passed_by_processes(self, pid: int) -> str | None:
        if self._group is not None:
            return _tell(self._group.read_passed(), self._limits)
        return _tell(compare(await asyncio.to_thread(read_usage, pid), self._limits), self._limits)

    async def stop(self) -> None:
        """Watch no longer; what the kernel has held the sandbox to counts also when it has ended of that."""
        if self._passed is None and self._group is not None:
            self._passed = _tell(self._group.read_passed(), self._limits)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def check(self) -> None:
        """Fail if it was ended.

        Raises:
            BuildError: it was.
        """
        if self._passed is not None:
            raise BuildError("CONTAINER_BUILD_FAILED", f"the build took more than {self._passed}")


def _last_words(directory: Path, done: process.Completed) -> str:
    """Return how the words begin with which a sandbox died, or the end of what it and its tools have said."""
    return _read(directory / _PANIC_LOG) or f"{done.stdout.strip()[-_TAIL_BYTES:]} {_read(directory / _LOG)}".strip()


def _read(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(_TAIL_BYTES).decode(errors="replace").strip()
    return ""


def _file_bytes(limits: Limits) -> int:
    """Return how large a file may be that the sandbox's processes write: no smaller than what they need themselves.

    gVisor's memory is a file with holes, which has 8 MiB for each of its processes; where it cannot grow, it dies.
    """
    return max(limits.disk_bytes, limits.memory_bytes + limits.host_tasks() * _BYTES_OF_TASK) + _GIB


def compare(usage: Usage, limits: Limits) -> Passed:
    """Say which limits are passed by what is used."""
    return Passed(usage.memory_bytes > limits.memory_bytes, usage.processes > limits.processes)


def _tell(passed: Passed, limits: Limits) -> str | None:
    if passed.memory:
        return f"{limits.memory_bytes >> 20} MiB of memory (EMBERBOX_BUILD_MEMORY_BYTES)"
    if passed.processes:
        return f"{limits.processes} processes at once"
    return None


def _write_surroundings(plan: SandboxPlan, group: Group | None) -> None:
    """Write what runsc and the commands around it read: the container, its control groups and its network."""
    for name in ("state", "store"):
        (plan.directory / name).mkdir(parents=True)
    write_bundle(plan.directory, describe(plan))
    groups = group.directories if group is not None else ()
    (plan.directory / "groups").write_text("".join(f"{directory}\n" for directory in groups))
    outer = (
        "link delete tap0",
        "link add tap0 type veth peer name eth0",
        f"link set tap0 address {GATEWAY_MAC}",
        f"address add {GATEWAY_ADDRESS}/24 dev tap0",
        f"address add {DNS_ADDRESS}/32 dev tap0",
        f"link set eth0 address {GUEST_MAC}",
        "link set tap0 up",
        f"neighbour add {GUEST_ADDRESS} lladdr {GUEST_MAC} dev tap0 nud permanent",
    )
    inner = (
        "link set lo up",
        f"address add {GUEST_ADDRESS}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {GATEWAY_ADDRESS}",
    )
    for name, lines in (("outer", outer), ("inner", inner)):
        (plan.directory / name).write_text("\n".join(lines) + "\n")


def describe(plan: SandboxPlan) -> Bundle:
    """Return the container of a plan: of the host it can write to single files, and to its store."""
    in_memory = [MemoryMount("/dev", _TMPFS_BYTES), MemoryMount("/run", _TMPFS_BYTES)]
    in_memory += [MemoryMount("/tmp", _TMPFS_BYTES, 0o1777)]  # noqa: S108 - in the sandbox
    shares = [HostMount(share.path, share.destination, read_only=not share.is_writable) for share in plan.shares]
    return Bundle(
        plan.command,
        DirectoryRoot(plan.root),
        dict(plan.environment),
        [*in_memory, *shares, StoreMount(plan.directory / "store", plan.store, plan.limits.disk_bytes)],
        hostname="build",
        read_only=True,
        limits=_LIMITS,
        network=_OWN_NAMESPACE,
    )
