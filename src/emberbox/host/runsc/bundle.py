"""What `runsc` is told of a sandbox: an OCI bundle (the runtime specification's config.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

AGENT_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_KILL", "CAP_LINUX_IMMUTABLE", "CAP_MKNOD", "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
)  # fmt: skip
"""What root may do inside a sandbox. They are rights over the sandbox's own kernel; the host grants none of them."""

NOFILE_MAX: Final = 1 << 20
PROCESSES_MAX: Final = 1000
"""Processes and threads of one user in a sandbox; who has CAP_SYS_RESOURCE in it is not held by that. With some 1,900
on the host gVisor's kernel stands still."""


@dataclass(frozen=True, slots=True)
class ErofsRoot:
    """An EROFS image as the root file system, read by the sandbox's kernel itself: no mount, no gofer process.

    Its files must not be packed inline (`mkfs.erofs -E noinline_data`), or they cannot be mapped nor executed, and
    files with extended attributes cannot be opened (`-x-1` leaves those out). What is written lies over it in memory.
    """

    image: Path


@dataclass(frozen=True, slots=True)
class DirectoryRoot:
    """A directory of the host's as the root file system; `--overlay2` says where what is written goes."""

    path: Path


@dataclass(frozen=True, slots=True)
class HostMount:
    """A file or directory of the host's in the sandbox; it needs a gofer process, and the same path at a restore."""

    source: Path
    destination: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Bundle:
    """One sandbox.

    Args:
        arguments: the first process.
        root: its root file system.
        environment: its whole environment.
        mounts: what it has of the host's beside its root.
        hostname: the first one.
        capabilities: those of its root user.
        read_only: nothing can be written to the root file system.
        processes: processes and threads that each user may have in it; who wants more is told EAGAIN.
        directory: where its first process starts.
    """

    arguments: Sequence[str]
    root: ErofsRoot | DirectoryRoot
    environment: Mapping[str, str]
    mounts: Sequence[HostMount] = ()
    hostname: str = "sandbox"
    capabilities: Sequence[str] = AGENT_CAPABILITIES
    read_only: bool = False
    processes: int = PROCESSES_MAX
    directory: str = "/"


def write_bundle(directory: Path, bundle: Bundle) -> None:
    """Write a bundle into a directory, which is made.

    Raises:
        OSError: the disk is full.
    """
    (directory / "rootfs").mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(render(bundle)))


def render(bundle: Bundle) -> dict[str, Any]:
    """Return config.json. The network namespace is new and empty: links are made by `control.Control.connect`."""
    rights = {kind: list(bundle.capabilities) for kind in ("bounding", "effective", "inheritable", "permitted")}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": list(bundle.arguments),
            "capabilities": rights,
            "cwd": bundle.directory,
            "env": [f"{name}={value}" for name, value in bundle.environment.items()],
            "rlimits": [_limit("RLIMIT_NOFILE", NOFILE_MAX), _limit("RLIMIT_NPROC", bundle.processes)],
            "user": {"uid": 0, "gid": 0},
        },
        "root": {
            "path": str(bundle.root.path) if isinstance(bundle.root, DirectoryRoot) else "rootfs",
            "readonly": bundle.read_only,
        },
        "hostname": bundle.hostname,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            *map(_render_mount, bundle.mounts),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
        "annotations": _render_annotations(bundle.root),
    }


def _limit(kind: str, most: int) -> dict[str, Any]:
    return {"type": kind, "hard": most, "soft": most}


def _render_mount(mount: HostMount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return {
        "destination": mount.destination,
        "type": "bind",
        "source": str(mount.source),
        "options": ["rbind", access],
    }


def _render_annotations(root: ErofsRoot | DirectoryRoot) -> dict[str, str]:
    if isinstance(root, DirectoryRoot):
        return {}
    prefix = "dev.gvisor.spec.rootfs"
    return {f"{prefix}.source": str(root.image), f"{prefix}.type": "erofs", f"{prefix}.overlay": "memory"}
