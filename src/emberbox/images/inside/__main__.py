"""The first process of a build's sandbox: `python3 -m emberbox.images.inside`, told by /job.json what to do.

What it prints is for the host, which trusts none of it: lines of the build's log, each after a blank; at the end one
line that begins with `=`, the outcome as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from emberbox.images import stand_in
from emberbox.images.authorities import SERVERS_VARIABLE, write_file, write_runtime
from emberbox.images.config import find_unheeded, parse_config
from emberbox.images.dockerfile import AWS_REGISTRY, prepare
from emberbox.images.explanations import explain_failure
from emberbox.images.inside import daemon
from emberbox.images.inside.engine_api import ApiError
from emberbox.images.inside.packing import Base, make_root, pack_base
from emberbox.images.randomness import AddedFile
from emberbox.model.errors import BuildError

JOB, CONTEXT, SEED = Path("/job.json"), Path("/context"), Path("/seed")
SEED_STORE = SEED / "store"
CACHE, CACHE_OUT, OUT, BASE = Path("/cache.tar"), Path("/cache-out"), Path("/root.erofs"), Path("/base.tar")
BASE_NAMES = ("emberbox/debian:12", "localhost/emberbox/debian:12")
_IMAGE = "emberbox-build"
_STAND_IN = "emberbox/stand-in"
_BASES = "emberbox/base"
_REACH_TIMEOUT_S = 3.0
_NOT_ON_DEBIAN = re.compile(r"\b(?:micro)?dnf: |\byum: ")
_UNREACHED = re.compile(r"failed to resolve source metadata|dial tcp|failed to do request")
_FULL = "no space left on device"


def say(line: str) -> None:
    """Tell the build's log."""
    _print(f" {line}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Do the job and print its outcome."""
    job = json.loads(JOB.read_text())
    try:
        outcome = _JOBS[job["kind"]](job)
    except BuildError as error:
        outcome = _failure(error)
    except (daemon.DaemonError, ApiError, subprocess.CalledProcessError, OSError) as error:
        outcome = {"failed": f"{type(error).__name__}: {error}"}
    _print(f"={json.dumps(outcome)}")
    return 0


def make_seed(_job: dict[str, Any]) -> dict[str, Any]:
    """Store the base image in a new store, and leave that at /seed."""
    with daemon.running_daemon():
        daemon.docker("import", "--change", 'CMD ["/bin/bash"]', str(BASE), BASE_NAMES[0])
        daemon.API.tag_image(*BASE_NAMES)
    (daemon.STORE / "volumes/backingFsBlockDev").unlink(missing_ok=True)
    (layer,) = daemon.STORE.glob("overlay2/*/diff")
    for device in layer.glob("dev/*"):
        if not device.is_dir():
            device.unlink()  # the host lets nobody in a sandbox make one, and guests have their own
    pack_base(_base(layer))
    subprocess.run(["cp", "-a", daemon.STORE, SEED_STORE], check=True)
    return {}


def run_build(job: dict[str, Any]) -> dict[str, Any]:
    """Build the Dockerfile of the context and pack the image; the layers of a build that failed are kept too."""
    _take_up_store()
    if job.get("authorities"):
        _trust(job["authorities"])
    with daemon.running_daemon():
        try:
            outcome = _build(job)
        except BuildError as error:
            outcome = _failure(error)
        if job["cache_bytes"]:
            daemon.drop_old_layers(_IMAGE, job["cache_bytes"])
    if job["cache_bytes"]:
        daemon.save_store(CACHE_OUT)
    return outcome


def run_load(job: dict[str, Any]) -> dict[str, Any]:
    """Take in the image whose layout is the context, and pack it."""
    daemon.copy_store(SEED_STORE)
    with daemon.running_daemon():
        try:
            daemon.load_image(CONTEXT)
        except daemon.DaemonError as error:
            if _FULL in str(error).lower():
                raise explain(_FULL, ()) from error
            raise BuildError("CONTAINER_BUILD_FAILED", f"the image cannot be unpacked: {error}") from error
        return _pack(job, daemon.read_image(_IMAGE))


def _trust(authorities: str) -> None:
    """Let the daemon, and the steps that it runs, trust authorities."""
    directory = Path("/run/trust")
    directory.mkdir()
    file = write_file(directory, authorities)
    write_runtime(directory, file, sys.executable)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"  # BuildKit runs the first runc that it finds
    os.environ[SERVERS_VARIABLE] = str(file)


_JOBS = {"seed": make_seed, "build": run_build, "load": run_load}


def _failure(error: BuildError) -> dict[str, Any]:
    return {"reason": error.reason, "detail": error.detail}


def _take_up_store() -> None:
    if CACHE.stat().st_size:
        try:
            daemon.load_store(CACHE)
        except subprocess.CalledProcessError:
            say("NOTE: the layer cache cannot be read and is left out")
            daemon.clear_store()
        else:
            return
    daemon.copy_store(SEED_STORE)


def _build(job: dict[str, Any]) -> dict[str, Any]:
    used = {base["name"]: _take_base(base) for base in job.get("bases", ())}
    daemon.drop_images(_BASES, keep=list(used.values()))
    dockerfile, contexts = _prepare_dockerfile(used)
    used |= dict.fromkeys(contexts, _make_stand_in() if contexts else "")
    named = [f"--build-context={name}=docker-image://docker.io/{image}" for name, image in used.items()]
    tail = daemon.build(["--tag", _IMAGE, "--file", str(dockerfile), *named, str(CONTEXT)], say)
    if tail is not None:
        raise explain("\n".join(tail), contexts)
    settings, layers = daemon.read_image(_IMAGE)
    for note in find_unheeded(settings):
        say(note)
    return _pack(job, (settings, layers))


def _pack(job: dict[str, Any], image: tuple[dict[str, Any], list[Path]]) -> dict[str, Any]:
    settings, layers = image
    config = parse_config(settings)
    (layer,) = SEED_STORE.glob("overlay2/*/diff")
    say("Packing the root file system")
    environment = {**dict(config.environment), **job["environment"]}
    try:
        library, agent = Path(job["library"]).read_bytes(), _read_agent(job.get("agent"))
        root = make_root(
            layers, _base(layer), OUT, config.user, environment, library, agent, job.get("authorities", ""),
            _find_modules(job.get("modules")),
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise BuildError("DISK_STORAGE_FULL", "the root file system cannot be packed; is the disk full?") from error
    return {"config": dataclasses.asdict(config), "root": dataclasses.asdict(root)}


def _take_base(base: dict[str, str]) -> str:
    """Return the name of what is used in place of an image, which is taken in unless the layer cache has it."""
    if not base["layout"]:
        return BASE_NAMES[0] if base["used"] == BASE_NAMES[0] else _make_stand_in()
    layout = Path(base["layout"])
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    name = f"{_BASES}:{manifest['digest'].removeprefix('sha256:')}"
    if not daemon.has_image(name):
        daemon.load_image(layout)
        daemon.API.tag_image(_IMAGE, name)
    return name


def _prepare_dockerfile(given: Container[str]) -> tuple[Path, tuple[str, ...]]:
    """Write the Dockerfile as it is built beside the context; return it, and the names that the base stands for.

    Args:
        given: names of images that something is used for already.
    """
    try:
        text = (CONTEXT / "Dockerfile").read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise BuildError("CONTAINER_BUILD_FAILED", f"the Dockerfile cannot be read: {error.strerror}") from error
    prepared = prepare(text)
    for note in prepared.notes:
        say(note)
    written = Path("/run/Dockerfile")
    written.write_bytes(prepared.text.encode(errors="surrogateescape"))
    ignored = CONTEXT / "Dockerfile.dockerignore"
    if ignored.exists():
        shutil.copyfile(ignored, written.with_name(ignored.name))
    return written, _stand_ins([name for name in prepared.stand_ins if name not in given])


def _read_agent(agent: dict[str, str] | None) -> AddedFile | None:
    if agent is None:
        return None
    return AddedFile(agent["destination"], Path(agent["source"]).read_bytes(), 0o755)


def _find_modules(modules: dict[str, str] | None) -> tuple[Path, str] | None:
    return None if modules is None else (Path(modules["source"]), modules["release"])


def _base(layer: Path) -> Base:
    return Base(layer, SEED, SEED / "openssl.json")


def _make_stand_in() -> str:
    """Make the Debian base with `dnf`, where the layer cache has none yet; return its name."""
    name = f"{_STAND_IN}:{stand_in.version()}"
    if not daemon.has_image(name):
        context = Path("/run/stand-in")
        context.mkdir()
        stand_in.write_archive(context / "files.tar")
        (context / "Dockerfile").write_text(f"FROM {BASE_NAMES[0]}\nADD files.tar /\n")
        if daemon.build(["--tag", name, str(context)], lambda _line: None) is not None:
            raise daemon.DaemonError("the stand-in for Amazon Linux cannot be made")
    return name


def _stand_ins(names: Sequence[str]) -> tuple[str, ...]:
    if not names or _answers(f"https://{AWS_REGISTRY}/v2/"):
        return ()
    for name in names:
        say(f"NOTE: {AWS_REGISTRY} is out of reach; {name} stands for the local Debian 12 base here")
    return tuple(names)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_REACH_TIMEOUT_S):  # noqa: S310 - fixed https
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


def explain(tail: str, stand_ins: Sequence[str]) -> BuildError:
    """Say why a build failed.

    Args:
        tail: its last lines.
        stand_ins: the names that the Debian base stood for.
    """
    if _FULL in tail.lower():
        return BuildError("DISK_STORAGE_FULL", "the build needs more disk than it may have (EMBERBOX_BUILD_DISK_BYTES)")
    detail = explain_failure(tail, in_sandbox=True)
    if stand_ins and _NOT_ON_DEBIAN.search(tail):
        detail += (
            f"; {stand_ins[0]} is Debian here, and dnf leads to apt: let builds reach {AWS_REGISTRY}, or use apt-get"
        )
    elif _UNREACHED.search(tail):
        detail += "; a registry or server cannot be reached from builds (docs/network.md)"
    return BuildError("CONTAINER_BUILD_FAILED", detail)


if __name__ == "__main__":
    sys.exit(main())
