"""How builds end: with their outcome, whatever happens while they are cleared up; and what their VMMs may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberbox.host import log_files, scratch
from emberbox.host.space import DiskSpace
from emberbox.images import containers as containers_module
from emberbox.images import leftovers
from emberbox.images.base import BuildPlan
from emberbox.images.containers import Containers
from emberbox.images.pipeline import Limits, Pipeline
from emberbox.machine.local import Places
from emberbox.model.errors import BuildError, HostError
from emberbox.model.sizes import SIZES


class Log:
    """A build's log, and its only stream."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stream(self, _name: str) -> Log:
        return self

    def write(self, line: str) -> None:
        self.lines.append(line)

    def write_all(self, lines: Sequence[str]) -> None:
        self.lines += lines

    async def wait_for_room(self) -> None:
        """There is always room."""


@pytest.fixture
def plan(tmp_path: Path) -> BuildPlan:
    (tmp_path / "builds").mkdir()
    return BuildPlan(
        build_id="b", image_id="i", image_name="n", image_arn="a", version="1.0", region="r", artifact_uri="s3://other/key",
        readable_prefixes=(),
        account_id="000000000000", size=SIZES[512], environment={}, all_capabilities=False,
        ready=None, validate=None,
    )  # fmt: skip


async def test_an_error_while_a_build_is_cleared_up_does_not_hide_its_outcome(
    plan: BuildPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_directory: Path) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(scratch, "remove_tree", fail)
    missing: Any = None
    pipeline = Pipeline(
        missing, missing, missing, missing, Limits(1, 1, 1),
        DiskSpace(tmp_path, 1), Places(tmp_path), s3_has_accounts=False,
    )  # fmt: skip
    log = Log()
    with pytest.raises(BuildError) as caught:
        await pipeline.run(plan, log)
    assert "Bad file descriptor" not in str(caught.value)
    assert log.lines[-1].startswith("FAILED: ")


async def test_a_builds_log_begins_with_what_must_be_known_of_it(plan: BuildPlan, tmp_path: Path) -> None:
    missing: Any = None
    pipeline = Pipeline(
        missing, missing, missing, missing, Limits(1, 1, 1), DiskSpace(tmp_path, 1 << 60),
        Places(tmp_path), s3_has_accounts=False,
    )  # fmt: skip
    log = Log()
    with pytest.raises(BuildError):
        await pipeline.run(replace(plan, notes=("first", "second")), log)
    assert log.lines[:2] == ["first", "second"]
    assert log.lines[2].startswith("FAILED: ")


async def test_a_build_does_not_begin_without_room(plan: BuildPlan, tmp_path: Path) -> None:
    missing: Any = None
    space = DiskSpace(tmp_path, 1 << 60)
    pipeline = Pipeline(
        missing, missing, missing, missing, Limits(1, 1, 1), space, Places(tmp_path),
        s3_has_accounts=False,
    )  # fmt: skip
    with pytest.raises(BuildError, match="DISK_STORAGE_FULL: The image cannot be built now: the disk of"):
        await pipeline.run(plan, Log())
    assert not list((tmp_path / "builds").iterdir())


def test_what_vmms_say_is_bounded_while_they_go_on(tmp_path: Path) -> None:
    (tmp_path / "builds/b").mkdir(parents=True)
    (tmp_path / "microvms/m").mkdir(parents=True)
    console, quiet = tmp_path / "builds/b/console", tmp_path / "microvms/m/vmm.log"
    quiet.write_text("a word\n")
    with console.open("ab", buffering=0) as file:
        file.write(b"x" * (log_files.MAX_BYTES + 1))
        log_files.trim_log_files(tmp_path)
        file.write(b"more")
    assert console.read_bytes() == b"more"
    assert quiet.read_text() == "a word\n"


async def test_the_store_of_base_images_counts_only_when_it_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Containers(tmp_path / "containers")

    async def buildah(*_arguments: str, **_options: object) -> Any:
        assert not (tmp_path / "containers" / "complete").exists()
        raise HostError("the machine stops here")

    monkeypatch.setattr(store, "_buildah", buildah)
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers" / "complete").touch()
    await store.drop_unless_whole()
    assert (tmp_path / "containers").exists()
    with pytest.raises(HostError, match="stops here"):
        await store.import_root(tmp_path / "archive", "name")
    await store.drop_unless_whole()
    assert not (tmp_path / "containers").exists()


async def test_what_cannot_be_cleared_up_now_does_not_keep_a_server_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builds/b").mkdir(parents=True)

    async def fail(_store: Containers) -> None:
        raise HostError("target is busy")

    monkeypatch.setattr(containers_module.Containers, "remove", fail)
    await leftovers.clear_builds(tmp_path)
    assert (tmp_path / "builds/b").exists()
