"""What the pipeline builds with: the machine's own tools, or those of the architecture that a Dockerfile asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emberbox.guest.metadata import MetadataService
from emberbox.host.space import DiskSpace
from emberbox.images.base import BuildPlan
from emberbox.images.pipeline import Limits, Pipeline, Run, Workshop
from emberbox.machine.local import Places
from emberbox.model.sizes import SIZES

PLAN = BuildPlan(
    build_id="b", image_id="i", image_name="n", image_arn="a", version="1.0", region="r", artifact_uri="s3://b/k",
    readable_prefixes=(), account_id="000000000000", size=SIZES[512], environment={}, all_capabilities=False,
    ready=None, validate=None,
)  # fmt: skip
OWN, ARM = object(), object()


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    nothing: Any = None
    other = Workshop(ARM, nothing)  # type: ignore[arg-type]
    return Pipeline(
        OWN, nothing, nothing, nothing, Limits(1, 1, 1), DiskSpace(tmp_path), Places(tmp_path),  # type: ignore[arg-type]
        s3_has_accounts=False, others={"qemu-arm64": other},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dockerfile", "may_choose", "engine"),
    [
        ("FROM --platform=linux/arm64 a\n", True, "qemu-arm64"),
        ("FROM --platform=linux/arm64 a\n", False, ""),
        ("FROM --platform=linux/riscv64 a\n", True, ""),
        ("FROM a\n", True, ""),
    ],
)
def test_a_dockerfile_chooses_where_the_request_does_not(
    pipeline: Pipeline, tmp_path: Path, dockerfile: str, may_choose: bool, engine: str
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(dockerfile)
    (tmp_path / "artifact").write_bytes(b"PK")
    chosen: list[str] = []

    def on_engine(name: str) -> str:
        chosen.append(name)
        return "NOTE: so it is"

    said: Any = Said()
    plan = replace(PLAN, on_engine=on_engine if may_choose else None)
    run = Run(plan, tmp_path, None, said, MetadataService(plan.credentials))  # type: ignore[arg-type]
    followed = pipeline._follow_platform(run)
    assert followed.plan.engine == engine
    assert chosen == ([engine] if engine else [])
    assert said.lines == (["NOTE: so it is"] if engine else [])
    assert pipeline._find_workshop(followed.plan).builder is (ARM if engine else OWN)
