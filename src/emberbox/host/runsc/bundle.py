"""What `runsc` is told of a sandbox: an OCI bundle (the runtime specification's config.json)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

LIMITS: Final = {"RLIMIT_NOFILE": NOFILE_MAX, "RLIMIT_NPROC": PROCESSES_MAX}


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
class MemoryMount:
    """An empty file system in the sandbox's memory, which holds no more than `size_bytes`."""

    destination: str
    size_bytes: int
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class StoreMount:
    """An empty file system of no more than `size_bytes`, kept in a file of the host's in `directory`."""

    directory: Path
    destination: str
    size_bytes: int


Mount = HostMount | MemoryMount | StoreMount


@dataclass(frozen=True, slots=True)
class Bundle:
    """One sandbox.

    Args:
        arguments: the first process.
        root: its root file system.
        environment: its whole environment.
        mounts: what it has beside its root, at most one of them a store. One at `/dev` is there in place of the usual.
        hostname: the first one.
        capabilities: those of its root user.
        read_only: nothing can be written to the root file system.
        directory: where its first process starts.
        limits: of each process in it (names of setrlimit(2)).
        network: a network namespace whose devices it takes over; None: a new and empty one, to which links are made by
            `control.Control.connect`.
    """

    arguments: Sequence[str]
    root: ErofsRoot | DirectoryRoot
    environment: Mapping[str, str]
    mounts: Sequence[Mount] = ()
    hostname: str = "sandbox"
    capabilities: Sequence[str] = AGENT_CAPABILITIES
    read_only: bool = False
    directory: str = "/"
    limits: Mapping[str, int] = field(default_factory=lambda: dict(LIMITS))
    network: Path | None = None


def write_bundle(directory: Path, bundle: Bundle) -> None:
    """Write a bundle into a directory, which is made.

    Raises:
        OSError: the disk is full.
    """
    (directory / "rootfs").mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(render(bundle)))


def render(bundle: Bundle) -> dict[str, Any]:
    """Return config.json."""
    rights = {kind: list(bundle.capabilities) for kind in ("bounding", "effective", "inheritable", "permitted")}
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": list(bundle.arguments),
            "capabilities": rights,
            "cwd": bundle.directory,
            "env": [f"{name}={value}" for name, value in bundle.environment.items()],
            "rlimits": [{"type": name, "hard": most, "soft": most} for name, most in bundle.limits.items()],
            "user": {"uid": 0, "gid": 0},
        },
        "root": {
            "path": str(bundle.root.path) if isinstance(bundle.root, DirectoryRoot) else "rootfs",
            "readonly": bundle.read_only,
        },
        "hostname": bundle.hostname,
        "mounts": _render_mounts(bundle.mounts),
        "linux": {"namespaces": [*({"type": kind} for kind in _NAMESPACES), _render_network(bundle.network)]},
        "annotations": _render_root_hints(bundle.root) | _render_store_hints(bundle.mounts),
    }


_NAMESPACES: Final = ("pid", "ipc", "uts", "mount")
_USUAL: Final = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs"}


def _render_network(namespace: Path | None) -> dict[str, str]:
    return {"type": "network"} if namespace is None else {"type": "network", "path": str(namespace)}


def _render_mounts(mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    given = {mount.destination for mount in mounts}
    usual = [
        {"destination": destination, "type": kind, "source": kind}
        for destination, kind in _USUAL.items()
        if destination not in given
    ]
    return [*usual, *map(_render_mount, mounts)]


def _render_mount(mount: Mount) -> dict[str, Any]:
    match mount:
        case MemoryMount(destination, size_bytes, mode):
            options = [f"mode={mode:04o}", f"size={size_bytes}"]
            return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}
        case StoreMount(directory, destination):
            return _render_bind(directory, destination, "rw")
        case HostMount(source, destination, read_only):
            return _render_bind(source, destination, "ro" if read_only else "rw")


def _render_bind(source: Path, destination: str, access: str) -> dict[str, Any]:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", access]}


def _render_store_hints(mounts: Sequence[Mount]) -> dict[str, str]:
    """Say of a store's bind mount that it is no directory of the host's, but memory that is kept in a file there."""
    prefix, hints = "dev.gvisor.spec.mount.store", dict[str, str]()
    for mount in mounts:
        if isinstance(mount, StoreMount):
            options = f"rw,size={mount.size_bytes}"
            hints = {"source": str(mount.directory), "type": "tmpfs", "share": "container", "options": options}
    return {f"{prefix}.{name}": value for name, value in hints.items()}


def _render_root_hints(root: ErofsRoot | DirectoryRoot) -> dict[str, str]:
    if isinstance(root, DirectoryRoot):
        return {}
    prefix = "dev.gvisor.spec.rootfs"
    return {f"{prefix}.source": str(root.image), f"{prefix}.type": "erofs", f"{prefix}.overlay": "memory"}
