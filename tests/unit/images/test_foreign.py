"""Builds for another architecture in sandboxes: no Dockerfile, but images that are there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emberbox.images.builders import ContainerBuild
from emberbox.images.foreign import LoadingBuilder
from emberbox.model.errors import BuildError


class Sandboxed:
    def __init__(self) -> None:
        self.done: list[str] = []

    async def prepare(self, _say: object) -> None:
        self.done.append("prepare")

    async def build(self, _work: object) -> Any:
        self.done.append("build")

    async def load(self, _work: object) -> Any:
        self.done.append("load")


async def test_dockerfiles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    sandboxed, work = Sandboxed(), ContainerBuild(None, tmp_path, tmp_path, tmp_path, 1.0, print, print)  # type: ignore[arg-type]
    builder = LoadingBuilder(sandboxed)
    await builder.prepare(print)
    await builder.load(work)
    with pytest.raises(BuildError) as refused:
        await builder.build(work)
    assert "EMBERBOX_BUILDS=host" in refused.value.detail
    assert sandboxed.done == ["prepare", "load"]
