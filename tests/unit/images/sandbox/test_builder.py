"""What a sandbox says of an image is taken only in the form that it should have."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.images.builders import ContainerBuild
from emberbox.images.config import ImageConfig, RootFileSystem, User
from emberbox.images.containers import BuildNetwork, LogLine
from emberbox.images.sandbox.base import Limits, SandboxPlan
from emberbox.images.sandbox.builder import SandboxBuilder, read_outcome
from emberbox.images.sandbox.caches import CacheKey, LayerCaches
from emberbox.images.sandbox.root import BuilderRoot
from emberbox.images.substitutes import Base
from emberbox.model.errors import BuildError, HostError
from emberbox.process import OnLine

CONFIG: dict[str, Any] = {
    "arguments": ["a", "b"], "environment": [["A", "1"]], "directory": "/", "user": "www", "ports": [80],
}  # fmt: skip
ROOT: dict[str, Any] = {
    "user": {"uid": 33, "gid": 34, "groups": [35], "home": "/w"}, "environment": [], "notes": ["NOTE"],
}  # fmt: skip


def test_an_image_is_read() -> None:
    config, root = read_outcome({"config": CONFIG, "root": ROOT})
    assert config == ImageConfig(("a", "b"), (("A", "1"),), "/", "www", (80,))
    assert root == RootFileSystem(User(33, 34, (35,), "/w"), (), ("NOTE",))


def test_a_failure_is_the_builds() -> None:
    with pytest.raises(BuildError, match="CONTAINER_BUILD_FAILED: see above"):
        read_outcome({"reason": "CONTAINER_BUILD_FAILED", "detail": "see above"})


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"config": CONFIG},
        {"config": [], "root": ROOT},
        {"config": {**CONFIG, "arguments": [1]}, "root": ROOT},
        {"config": {**CONFIG, "arguments": ["a\0b"]}, "root": ROOT},
        {"config": {**CONFIG, "ports": [-1]}, "root": ROOT},
        {"config": {**CONFIG, "environment": ["AB", ["A"]]}, "root": ROOT},
        {"config": CONFIG, "root": {**ROOT, "user": {**ROOT["user"], "uid": 1 << 32}}},
        {"config": CONFIG, "root": {**ROOT, "user": None}},
        {"reason": ["x"]},
    ],
)
def test_anything_else_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="makes no sense"):
        read_outcome(told)


DOCKERFILE = b"FROM emberbox/debian:12\nCMD true\n"


class Told:
    """A sandbox that tells an outcome, and writes what a build would."""

    def __init__(self, line: str, cache: bytes = b"", meanwhile: Callable[[], object] = lambda: None) -> None:
        self._line, self._cache, self._meanwhile = line, cache, meanwhile
        self.plan: SandboxPlan | None = None
        self.cache = ""
        self.job: dict[str, Any] = {}

    async def run(self, plan: SandboxPlan, on_line: OnLine) -> None:
        self.plan = plan
        self._meanwhile()
        for share in plan.shares:
            if share.destination == "/cache.tar":
                assert not share.is_writable
                self.cache = share.path.read_text()
            if share.destination == "/job.json":
                self.job = json.loads(share.path.read_text())
            if share.destination == "/cache-out":
                share.path.write_bytes(self._cache)
        for line in (" a line", self._line):
            waiting = on_line(line)
            assert waiting is not None
            await waiting


class Roots:
    """What sandboxes are made of, made already."""

    async def ensure(self, _say: LogLine) -> BuilderRoot:
        return BuilderRoot(Path("/root"), Path("/seed"), "new")


@contextlib.asynccontextmanager
async def no_network(_egress: object) -> AsyncIterator[BuildNetwork]:
    yield BuildNetwork()


async def build(
    tmp_path: Path, told: Told, account_id: str = "000000000000", *, is_image: bool = False,
    bases: tuple[Base, ...] = (), modules: Path | None = None,
) -> list[str]:  # fmt: skip
    directory, lines = tmp_path / "b", list[str]()
    directory.mkdir()
    (tmp_path / "Dockerfile").write_bytes(DOCKERFILE)

    async def take(line: str) -> None:
        lines.append(line)

    plan: Any = SimpleNamespace(egress=None, account_id=account_id, environment={"A": "1"}, image_name="image")
    roots: Any = Roots()
    builder = SandboxBuilder(
        told, roots, no_network, Limits(1, 1, 1, 1), LayerCaches(tmp_path / "caches", 1 << 20), "PEM"
    )
    work = ContainerBuild(
        plan, directory, tmp_path, directory / "root.erofs", 1, lines.append, take, bases=bases, modules=modules
    )
    try:
        await (builder.load if is_image else builder.build)(work)
    finally:
        shutil.rmtree(directory)
    return lines


GOOD = f"={json.dumps({'config': CONFIG, 'root': ROOT})}"


def find_kept(tmp_path: Path) -> set[str]:
    return {path.read_text() for path in (tmp_path / "caches").iterdir()}


async def test_a_build_begins_with_the_layers_of_the_one_before(tmp_path: Path) -> None:
    await build(tmp_path, first := Told(GOOD, b"layers"))
    await build(tmp_path, second := Told(GOOD))
    await build(tmp_path, other := Told(GOOD), "111111111111")
    assert (first.cache, second.cache, other.cache) == ("", "layers", "")
    assert find_kept(tmp_path) == {"layers"}


def put(tmp_path: Path, text: str) -> None:
    """Do what another build of the image does at its end."""
    (tmp_path / "new").write_text(text)
    LayerCaches(tmp_path / "caches", 1 << 20).keep(
        CacheKey("000000000000", "new", "image", DOCKERFILE), tmp_path / "new"
    )


@pytest.mark.parametrize("line", [GOOD, '={"failed": "dockerd does not start"}'])
async def test_another_build_takes_no_cache_away_from_one_that_begins(tmp_path: Path, line: str) -> None:
    """A sandbox dies of a file that goes before it has begun; and a new cache is not why one with the old failed."""
    await build(tmp_path, Told(GOOD, b"layers"))
    told = Told(line, b"mine", lambda: put(tmp_path, "others"))
    with contextlib.nullcontext() if line == GOOD else pytest.raises(HostError, match="dockerd"):
        await build(tmp_path, told)
    assert told.cache == "layers"
    assert find_kept(tmp_path) == {"mine" if line == GOOD else "others"}


async def test_an_image_that_is_there_has_nothing_to_do_with_the_cache(tmp_path: Path) -> None:
    await build(tmp_path, Told(GOOD, b"layers"))
    await build(tmp_path, told := Told(GOOD, b"others"), is_image=True)
    assert told.plan is not None
    assert {"/cache.tar", "/cache-out"} & {share.destination for share in told.plan.shares} == set()
    with pytest.raises(HostError, match="dockerd"):
        await build(tmp_path, Told('={"failed": "dockerd does not start"}'), is_image=True)
    assert find_kept(tmp_path) == {"layers"}


async def test_a_cache_that_may_be_why_a_sandbox_failed_is_dropped(tmp_path: Path) -> None:
    await build(tmp_path, Told(GOOD, b"layers"))
    with pytest.raises(HostError, match="dockerd"):
        await build(tmp_path, Told('={"failed": "dockerd does not start"}'))
    assert list((tmp_path / "caches").iterdir()) == []


async def test_a_sandbox_gets_authorities_and_bases_and_no_login(tmp_path: Path) -> None:
    """Layouts of bases are there to be read; a base that is made locally is only named."""
    bases = (Base("python:3", "mirror.test/python:3", tmp_path / "layout"), Base("x", "emberbox/debian:12"))
    await build(tmp_path, told := Told(GOOD), bases=bases)
    assert told.plan is not None
    (share,) = [share for share in told.plan.shares if share.path == tmp_path / "layout"]
    assert not share.is_writable
    assert told.job["bases"] == [
        {"name": "python:3", "used": "mirror.test/python:3", "layout": share.destination},
        {"name": "x", "used": "emberbox/debian:12", "layout": None},
    ]
    assert told.job["authorities"] == "PEM"


async def test_a_sandbox_reads_modules_where_guests_load_some(tmp_path: Path) -> None:
    await build(tmp_path, without := Told(GOOD))
    assert without.job["modules"] is None
    await build(tmp_path, told := Told(GOOD), modules=tmp_path / "6.1.0-x")
    assert told.plan is not None
    (share,) = [share for share in told.plan.shares if share.path == tmp_path / "6.1.0-x"]
    assert not share.is_writable
    assert told.job["modules"] == {"source": share.destination, "release": "6.1.0-x"}
