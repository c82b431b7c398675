"""What the pipeline builds with: whose tools, and the modules of which kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emberbox.guest.metadata import MetadataService
from emberbox.host.kernel import Kernel
from emberbox.host.space import DiskSpace
from emberbox.images import pipeline as pipeline_module
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


@pytest.mark.parametrize("all_capabilities", [False, True])
@pytest.mark.parametrize("own_kernel", [False, True])
async def test_modules_are_for_images_with_all_capabilities_and_a_kernel_of_their_own(
    all_capabilities: bool, own_kernel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def kernel() -> Kernel:
        return Kernel("6.1.0-x", tmp_path / "vmlinuz", tmp_path / "initramfs")

    monkeypatch.setattr(pipeline_module, "ensure_modules", lambda directory, release: directory / release)
    missing: Any = None
    pipeline = Pipeline(
        missing, missing, kernel, missing, Limits(1, 1, 1), DiskSpace(tmp_path, 1), Places(tmp_path),
        s3_has_accounts=False,
    )  # fmt: skip
    stream: Any = SimpleNamespace(write=print)
    run = Run(replace(PLAN, all_capabilities=all_capabilities), tmp_path, missing, stream, missing)
    driver: Any = SimpleNamespace(capabilities=SimpleNamespace(own_kernel=own_kernel))
    work = await pipeline._work(run, tmp_path, driver)
    assert work.own_kernel == own_kernel
    assert work.modules == (tmp_path / "6.1.0-x" if all_capabilities and own_kernel else None)
