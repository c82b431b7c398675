"""Docker's daemon in the sandbox: its BuildKit is what reads and runs a Dockerfile."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from emberbox.images.inside.engine_api import EngineApi

STORE = Path("/var/lib/docker")
"""In memory for the sandbox, in one file of bounded size for the host."""

_LAYERS = "overlay2"
_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("devices", "memory", "cpu", "cpuacct", "cpuset", "pids", "job")
_BUILDX = "/usr/libexec/docker/cli-plugins/docker-buildx"
"""What `docker build` runs, after two programs that look for it."""

_SOCKET = Path("/run/docker.sock")
API = EngineApi(_SOCKET)
_CONTAINERD = Path("/run/containerd.sock")
_CONTAINERD_SETTINGS = """\
version = 2
root = "/run/containerd"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
"""
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 30.0
_TAIL_LINES = 20
_TAIL_BYTES = 2000
_SAID = re.compile(r"#\d+ \d+\.\d+ (.*)", re.DOTALL)


class DaemonError(Exception):
    """The daemon does not do what it should; the machine's fault, not the Dockerfile's."""


@contextlib.contextmanager
def running_daemon() -> Iterator[None]:
    """Run the daemon for as long as the block lasts; at its end the store is whole."""
    _mount_cgroups()
    settings = Path("/run/containerd.toml")
    settings.write_text(_CONTAINERD_SETTINGS)
    containerd = ["containerd", f"--config={settings}", f"--address={_CONTAINERD}", "--log-level=error"]
    dockerd = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--log-level=error"]
    dockerd += [f"--host=unix://{_SOCKET}", f"--containerd={_CONTAINERD}", f"--data-root={STORE}"]
    dockerd += [f"--storage-driver={_LAYERS}", "--exec-opt=native.cgroupdriver=cgroupfs"]
    with _running(containerd, _CONTAINERD), _running(dockerd, _SOCKET):  # by itself dockerd looks for it once a second
        yield


@contextlib.contextmanager
def _running(command: Sequence[str], socket: Path) -> Iterator[None]:
    """Run a server for as long as the block lasts, which begins when its socket is there.

    Raises:
        DaemonError: it does not start, or the block failed as it had ended; with what it said last.
    """
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + _START_TIMEOUT_S
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise DaemonError(f"{command[0]} does not start: {_tail(log)}")
                time.sleep(0.01)
            try:
                yield
            except Exception as error:
                if server.poll() is None:
                    raise
                raise DaemonError(f"{command[0]} has ended: {_tail(log)}") from error
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_STOP_TIMEOUT_S)
            server.kill()
            server.wait()


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _TAIL_BYTES))
    return log.read().decode(errors="replace").strip()


def _mount_cgroups() -> None:
    """Mount what runc wants of control groups; they limit nothing in this kernel."""
    subprocess.run(["mount", "-t", "tmpfs", "cgroups", _CGROUPS], check=True)
    for controller in _CONTROLLERS:
        directory = _CGROUPS / controller
        directory.mkdir()
        mount = ["mount", "-t", "cgroup", "-o", controller, controller, str(directory)]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            directory.rmdir()


def copy_store(seed: Path) -> None:
    """Begin with the store that is at `seed`; its layers stay where they are, and are read only."""
    (STORE / _LAYERS).mkdir(parents=True, exist_ok=True)
    archive = [*LARGE_READS, "-C", str(seed), "-c", f"--exclude=./{_LAYERS}/*/diff", "."]
    _pipe(archive, [*LARGE_READS, "-C", str(STORE), "-xp"])
    for layer in (seed / _LAYERS).glob("*/diff"):
        (STORE / _LAYERS / layer.parent.name / "diff").symlink_to(layer)


def _pipe(first: Sequence[str], second: Sequence[str]) -> None:
    with subprocess.Popen(first, stdout=subprocess.PIPE) as writer:
        subprocess.run(second, stdin=writer.stdout, check=True)
    if writer.returncode != 0:
        raise DaemonError(f"{first[0]} failed with code {writer.returncode}")


def save_store(archive: Path) -> None:
    """Write the store to one file, which `load_store` reads; layers of the seed are left out, as the links they are."""
    with archive.open("r+b") as file:
        subprocess.run([*_TAR, "-C", STORE, "-c", "."], stdout=file, check=True)
        file.truncate()
        os.fsync(file.fileno())


def load_store(archive: Path) -> None:
    """Begin with what `save_store` wrote."""
    subprocess.run([*_TAR, "-C", STORE, "-xpf", archive], check=True)


LARGE_READS = ("tar", "--blocking-factor=512")
"""256 KiB at a time and not 10: calls to the kernel are dear in a sandbox."""

_TAR = (*LARGE_READS, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sparse")


def clear_store() -> None:
    """Remove all that is in the store."""
    for entry in STORE.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def docker(*arguments: str) -> str:
    """Run a command of Docker's and return what it prints."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        raise DaemonError(f"docker {arguments[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def has_image(name: str) -> bool:
    """Say whether an image is stored."""
    return API.inspect_image(name) is not None


def drop_images(repository: str, keep: Sequence[str]) -> None:
    """Remove the images of a repository but some."""
    for name in API.list_names(repository):
        if name not in keep:
            API.remove_image(name)


def load_image(layout: Path) -> None:
    """Take in an image of a directory that has the form of `docker save`."""
    with subprocess.Popen(["tar", "-C", layout, "-c", "."], stdout=subprocess.PIPE) as writer:
        done = subprocess.run(
            ["docker", "load"], stdin=writer.stdout, check=False, capture_output=True, text=True, errors="replace"
        )
    if done.returncode != 0 or writer.returncode != 0:
        raise DaemonError(f"docker load failed: {done.stderr.strip()[-2000:]}")


def drop_old_layers(image: str, keep_bytes: int) -> None:
    """Remove an image, and of the layers and cache mounts those that were used longest ago."""
    API.remove_image(image)
    API.prune_builds(keep_bytes)


def build(arguments: Sequence[str], take_line: Callable[[str], None]) -> list[str] | None:
    """Run `docker build`.

    Args:
        arguments: of it.
        take_line: takes what it prints.

    Returns:
        None when it succeeded, else the last lines.
    """
    command = [_BUILDX, "build", "--network=host", "--progress=plain", *arguments]
    tail: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        assert run.stdout is not None
        for content in run.stdout:
            line = content.decode(errors="replace").rstrip("\r\n")
            take_line(own_words(line))
            tail.append(line)
            del tail[:-_TAIL_LINES]
    return None if run.returncode == 0 else tail


def own_words(line: str) -> str:
    """Return what a step said without the number and the time that BuildKit puts before it."""
    found = _SAID.match(line)
    return found[1] if found else line


def read_image(name: str) -> tuple[dict[str, Any], list[Path]]:
    """Return an image's settings, and its layers, the uppermost first."""
    shown = API.inspect_image(name)
    if shown is None:
        raise DaemonError(f"there is no image {name}")
    data = (shown.get("GraphDriver") or {}).get("Data") or {}
    layers = [data.get("UpperDir", ""), *data.get("LowerDir", "").split(":")]
    return shown["Config"], [Path(layer) for layer in layers if layer]
