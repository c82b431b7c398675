"""Snapshots as directories: complete or not there."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.machine.snapshot import (
    SuspendedState,
    forget_suspended,
    is_suspended,
    load_image_snapshot,
    load_resumed,
    load_suspended,
    take_back_resume,
)
from emberbox.model.errors import HostError
from emberbox.model.sizes import SnapshotSizes
from emberbox.vmm.base import MachineShape
from emberbox.vmm.engine import Engine, Processor
from emberbox.vmm.paged.files import MemoryLayer, layers_of
from support.snapshots import image_snapshot, suspended_state

SHAPE = MachineShape(2, 4096)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("root.erofs", "disk", "memory", "devices"):
        (tmp_path / name).write_bytes(b"x" * 8192)
    return tmp_path


@pytest.fixture
def suspended(tmp_path: Path) -> SuspendedState:
    for name in ("disk", "devices.saved", "memory.layer"):
        (tmp_path / name).write_bytes(b"x")
    return suspended_state(tmp_path, ((1, 2), (10, 1)))


def test_a_published_snapshot_is_loaded_as_it_was(directory: Path) -> None:
    image_snapshot(directory, SHAPE).publish()
    assert load_image_snapshot(directory) == image_snapshot(directory, SHAPE)


def test_a_published_snapshot_cannot_be_written(directory: Path) -> None:
    image_snapshot(directory, SHAPE).publish()
    for name in ("root.erofs", "disk", "memory", "devices"):
        assert (directory / name).stat().st_mode & 0o777 == 0o400


def test_the_sizes_are_those_of_the_files(directory: Path) -> None:
    assert image_snapshot(directory, SHAPE).sizes() == SnapshotSizes(memory=8192, code=8192, disk=8192)


def test_what_was_not_published_is_not_there(directory: Path) -> None:
    with pytest.raises(HostError, match="missing or damaged"):
        load_image_snapshot(directory)


@pytest.mark.parametrize("content", ["", "{", '{"format"'])
def test_a_damaged_snapshot_is_refused(directory: Path, content: str) -> None:
    (directory / "snapshot.json").write_text(content)
    with pytest.raises(HostError, match="missing or damaged"):
        load_image_snapshot(directory)


def test_another_releases_snapshot_is_refused(directory: Path) -> None:
    (directory / "snapshot.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(HostError, match="unknown format 99"):
        load_image_snapshot(directory)


ENGINE = Engine("QEMU", "7.2.22", "kvm", Processor("AuthenticAMD", 25, 1, "EPYC", ("avx2", "svm")))


def test_snapshots_and_suspended_states_say_what_saved_them(directory: Path, suspended: SuspendedState) -> None:
    image_snapshot(directory, SHAPE, ENGINE).publish()
    assert load_image_snapshot(directory).engine == ENGINE
    replace(suspended, saved=replace(suspended.saved, engine=ENGINE)).publish()
    assert load_suspended(suspended.directory).engine == ENGINE
    forget_suspended(suspended.directory)
    resumed = load_resumed(suspended.directory)
    assert resumed is not None
    assert resumed.engine == ENGINE


def as_format_2(path: Path) -> None:
    """Make the last file of a snapshot what the release before wrote."""
    content = json.loads(path.read_text().partition("\n")[0])
    del content["engine"]
    text = json.dumps({**content, "format": 2})
    path.write_text(f"{text}\n{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}\n")


def test_what_the_release_before_saved_is_loaded_and_says_nothing_of_an_engine(
    directory: Path, suspended: SuspendedState
) -> None:
    image_snapshot(directory, SHAPE, ENGINE).publish()
    as_format_2(directory / "snapshot.json")
    assert load_image_snapshot(directory) == image_snapshot(directory, SHAPE)
    replace(suspended, saved=replace(suspended.saved, engine=ENGINE)).publish()
    as_format_2(suspended.directory / "suspended.json")
    assert load_suspended(suspended.directory) == suspended


def write_as_before(path: Path, content: dict[str, object]) -> None:
    """Write a last file as the release did that knew the pages itself."""
    names = [str(layer["file"]) for layer in content.get("layers", ())]  # type: ignore[attr-defined]
    names += ["disk", "devices", "memory", "root.erofs"] if names else ["devices.saved", "disk", "memory.layer"]
    files = {}
    for name in names:
        status, told = (path.parent / name).stat(), (path.parent / name).read_bytes()
        digest = hashlib.blake2b(told, digest_size=16).hexdigest()
        files[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "blake2b": digest}
    text = json.dumps({"format": 3, **content, "engine": ENGINE.to_json(), "files": files})
    path.write_text(f"{text}\n{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}\n")


def test_what_a_home_of_before_holds_is_understood_page_by_page(directory: Path, suspended: SuspendedState) -> None:
    (directory / "memory.1").write_bytes(b"y" * 8192)
    layers = [{"file": "memory.1", "runs": [[0, 1], [5, 2]]}]
    shape = {"vcpu_count": 2, "mem_size_mib": 4096}
    write_as_before(directory / "snapshot.json", {"shape": shape, "layers": layers, "ports": [[8080, False]]})
    snapshot = load_image_snapshot(directory)
    assert layers_of(snapshot.saved) == (MemoryLayer(directory / "memory.1", ((0, 1), (5, 2))),)
    assert (snapshot.shape, snapshot.ports, snapshot.engine) == (SHAPE, ((8080, False),), ENGINE)
    assert snapshot.sizes().memory == 2 * 8192
    write_as_before(suspended.directory / "suspended.json", {"runs": [[1, 2], [10, 1]], "stopped": None})
    assert load_suspended(suspended.directory).saved == replace(suspended.saved, engine=ENGINE)


def test_what_is_written_is_what_the_release_before_reads(directory: Path, suspended: SuspendedState) -> None:
    image_snapshot(directory, SHAPE, ENGINE).publish()
    content = json.loads((directory / "snapshot.json").read_text().partition("\n")[0])
    assert set(content) == {"format", "shape", "layers", "ports", "engine", "files"}
    suspended.publish()
    content = json.loads((suspended.directory / "suspended.json").read_text().partition("\n")[0])
    assert set(content) == {"format", "runs", "stopped", "engine", "files"}
    assert content["runs"] == [[1, 2], [10, 1]]


def test_a_suspended_state_is_loaded_as_it_was(suspended: SuspendedState) -> None:
    suspended.publish()
    assert load_suspended(suspended.directory) == suspended


def test_a_resumed_microvms_state_does_not_count_any_more(suspended: SuspendedState) -> None:
    suspended.publish()
    forget_suspended(suspended.directory)
    forget_suspended(suspended.directory)
    with pytest.raises(HostError):
        load_suspended(suspended.directory)


def test_publishing_leaves_no_scratch_file(suspended: SuspendedState) -> None:
    suspended.publish()
    suspended.publish()
    assert not list(suspended.directory.glob("*.new"))


@pytest.mark.parametrize("name", ["root.erofs", "disk", "memory", "devices"])
def test_a_file_that_was_changed_after_it_was_published_is_told(directory: Path, name: str) -> None:
    image_snapshot(directory, SHAPE).publish()
    (directory / name).chmod(0o600)
    with (directory / name).open("r+b") as file:
        file.write(b"y")
    with pytest.raises(HostError, match=f"damaged: {name} was changed"):
        load_image_snapshot(directory)


def test_a_byte_is_missed_in_no_small_file_whatever_its_time_says(suspended: SuspendedState) -> None:
    suspended.publish()
    before = suspended.saved.path("devices.saved").stat()
    suspended.saved.path("devices.saved").write_bytes(b"y")
    os.utime(suspended.saved.path("devices.saved"), ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(HostError, match=r"damaged: devices\.saved was changed"):
        load_suspended(suspended.directory)


def test_a_missing_file_is_told(suspended: SuspendedState) -> None:
    suspended.publish()
    suspended.saved.path("memory.layer").unlink()
    with pytest.raises(HostError, match=r"damaged: memory\.layer: No such file"):
        load_suspended(suspended.directory)


def test_a_list_of_pages_that_was_changed_is_refused(suspended: SuspendedState) -> None:
    suspended.publish()
    state = suspended.directory / "suspended.json"
    state.write_text(state.read_text().replace("[10, 1]", "[11, 1]"))
    with pytest.raises(HostError, match=r"suspended\.json is not as it was written"):
        load_suspended(suspended.directory)


def test_what_a_microvm_was_resumed_from_is_remembered_while_it_runs(suspended: SuspendedState) -> None:
    assert load_resumed(suspended.directory) is None
    suspended.publish()
    forget_suspended(suspended.directory)
    assert not is_suspended(suspended.directory)
    assert load_resumed(suspended.directory) == suspended


def test_a_resume_is_taken_back_while_the_disk_is_as_it_was(suspended: SuspendedState) -> None:
    suspended.publish()
    take_back_resume(suspended.directory)
    assert load_suspended(suspended.directory) == suspended
    forget_suspended(suspended.directory)
    take_back_resume(suspended.directory)
    assert load_suspended(suspended.directory) == suspended
    assert not (suspended.directory / "resumed.json").exists()


def test_a_resume_is_not_taken_back_once_the_guest_has_written(suspended: SuspendedState) -> None:
    suspended.publish()
    forget_suspended(suspended.directory)
    (suspended.directory / "disk").write_bytes(b"later")
    take_back_resume(suspended.directory)
    assert not is_suspended(suspended.directory)


def test_what_was_never_suspended_has_no_resume_to_take_back(tmp_path: Path) -> None:
    take_back_resume(tmp_path)
    assert list(tmp_path.iterdir()) == []
