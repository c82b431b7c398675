"""Sandboxes of gVisor: a kernel of their own in a process without rights, on every machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from emberbox import process
from emberbox.host.network.slots import (
    DNS_ADDRESS,
    GATEWAY_ADDRESS,
    GATEWAY_MAC,
    GUEST_ADDRESS,
    GUEST_MAC,
)
from emberbox.images.sandbox.base import Limits, SandboxPlan
from emberbox.images.sandbox.usage import Usage, read_usage
from emberbox.model.errors import BuildError
from emberbox.process.watched import Child

WATCH_INTERVAL_S = 0.5
_TAIL_BYTES = 500
_GIB = 1 << 30
_TMPFS_BYTES = 1 << 30
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_ADMIN NET_RAW "
    "SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_RESOURCE SYS_NICE MKNOD AUDIT_WRITE SETFCAP LINUX_IMMUTABLE"
)
"""Rights in the sandbox's own kernel, as dockerd and runc want them; on the host they mean nothing."""

_LIMITS = {"RLIMIT_NOFILE": 1 << 20, "RLIMIT_FSIZE": (1 << 64) - 1}
"""Of the programs in the sandbox; else they would have the limits of its own processes on the host."""

_ENTER = """
set -e
mount -t tmpfs none /proc/sys/net/core
if [ -n "$1" ]; then
  nsenter --net="$1" ip -batch "$2/outer" >&2
  nsenter --net="$1" ip link set eth0 netns $$
  ip -batch "$2/inner" >&2
fi
shift 2
exec "$@"
"""
"""Runs in a mount and a network namespace of its own. This release of runsc takes a network namespace for the host's
when net.core has the settings that all namespaces have since Linux 6.12: so they are hidden from it."""


class GvisorSandbox:
    """Runs each program by a `runsc run` of its own, which leads a process namespace: with it all of it ends.

    Args:
        runsc: returns the program.
    """

    def __init__(self, runsc: Callable[[], Awaitable[Path]]) -> None:
        self._runsc = runsc

    async def run(self, plan: SandboxPlan, on_line: process.OnLine) -> None:
        """See `base.Sandbox`."""
        runsc = await self._runsc()
        _write_bundle(plan)
        namespace = str(plan.network.namespace) if plan.network and plan.network.namespace else ""
        command = [
            *["prlimit", f"--fsize={plan.limits.disk_bytes + _GIB}", "--"],
            *["unshare", "--net", "--", "sh", "-c", _ENTER, "sh", namespace, str(plan.directory)],
            *_runsc_command(runsc, plan, has_network=bool(namespace)),
        ]
        watch = _Watch(plan.limits)
        try:
            done = await process.run(
                command,
                environment={**os.environ, "TMPDIR": str(plan.directory)},
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
        finally:
            await watch.stop()
        watch.check()
        if done.returncode != 0:
            how = process.describe_exit(done.returncode)
            tail = done.stdout.strip()[-_TAIL_BYTES:]
            raise BuildError("CONTAINER_BUILD_FAILED", f"the sandbox of the build {how}; it said last: {tail}")


class _Watch:
    """Ends a sandbox that has taken more than it may."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._task: asyncio.Task[None] | None = None
        self._passed: str | None = None

    def start(self, child: Child) -> None:
        """Begin to watch a sandbox."""
        self._task = asyncio.create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        while child.returncode is None and self._passed is None:
            self._passed = _passed(await asyncio.to_thread(read_usage, child.pid), self._limits)
            await asyncio.sleep(WATCH_INTERVAL_S if self._passed is None else 0)
        await child.kill_group()

    async def stop(self) -> None:
        """Watch no longer."""
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


def _passed(usage: Usage, limits: Limits) -> str | None:
    """Say which limit is passed."""
    if usage.memory_bytes > limits.memory_bytes:
        return f"{limits.memory_bytes >> 20} MiB of memory (EMBERBOX_BUILD_MEMORY_BYTES)"
    if usage.processes > limits.processes:
        return f"{limits.processes} processes at once"
    return None


def _runsc_command(runsc: Path, plan: SandboxPlan, *, has_network: bool) -> list[str]:
    return [
        *[str(runsc), f"--root={plan.directory / 'state'}", "--platform=systrap", "--ignore-cgroups"],
        *[f"--network={'sandbox' if has_network else 'none'}", "--overlay2=none", "--file-access-mounts=exclusive"],
        *["run", f"--bundle={plan.directory}", "build"],
    ]


def _write_bundle(plan: SandboxPlan) -> None:
    """Write what runsc reads: the description of the container (OCI runtime specification), and the network's."""
    (plan.directory / "state").mkdir(parents=True)
    (plan.directory / "store").mkdir()
    (plan.directory / "config.json").write_text(json.dumps(describe(plan)))
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


def describe(plan: SandboxPlan) -> dict[str, Any]:
    """Return the container of a plan, as the OCI runtime specification has it."""
    capabilities = [f"CAP_{name}" for name in _CAPABILITIES.split()]
    store = str(plan.directory / "store")
    mount = "dev.gvisor.spec.mount.store"
    return {
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(plan.command),
            "env": [f"{name}={value}" for name, value in plan.environment],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "inheritable", "permitted"), capabilities),
            "rlimits": [{"type": name, "hard": most, "soft": most} for name, most in _LIMITS.items()],
        },
        "root": {"path": str(plan.root), "readonly": True},
        "hostname": "build",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            *(_memory(at) for at in ("/dev", "/run", "/tmp")),  # noqa: S108 - in the sandbox
            *(_bind(str(share.path), share.destination, share.is_writable) for share in plan.shares),
            _bind(store, plan.store, is_writable=True),
        ],
        "annotations": {
            f"{mount}.source": store,
            f"{mount}.type": "tmpfs",
            f"{mount}.share": "container",
            f"{mount}.options": f"rw,size={plan.limits.disk_bytes}",
        },
        "linux": {"namespaces": [*({"type": kind} for kind in ("pid", "mount", "ipc", "uts")), _NETWORK]},
    }


_NETWORK = {"type": "network", "path": "/proc/self/ns/net"}


def _memory(destination: str) -> dict[str, Any]:
    options = ["mode=0755" if destination != "/tmp" else "mode=1777", f"size={_TMPFS_BYTES}"]  # noqa: S108
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(source: str, destination: str, is_writable: bool) -> dict[str, Any]:
    options = ["bind", "rw" if is_writable else "ro"]
    return {"destination": destination, "type": "bind", "source": source, "options": options}
