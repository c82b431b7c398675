"""Dockerfiles written for Amazon Linux, where Debian stands for it: `dnf` leads to apt."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.images.builders import ContainerBuild, ContainerBuilder, HostBuilder
from emberbox.images.containers import Containers
from emberbox.images.managed import ManagedImages
from emberbox.model.errors import BuildError
from support.build_bench import PLAN, BuildBench, build_bench

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds that are compared have networks of their own, as root makes"),
]

DOCKERFILE = """\
FROM public.ecr.aws/lambda/microvms:al2023-minimal
RUN dnf install -y --setopt=install_weak_deps=0 tree shadow-utils && tree --version && dnf clean all
CMD ["sleep", "infinity"]
"""


@pytest.fixture
async def bench() -> AsyncIterator[BuildBench]:
    async with build_bench() as bench:
        yield bench


@pytest.mark.parametrize("where", ["host", "sandbox"])
async def test_dnf_installs_packages(where: str, bench: BuildBench) -> None:
    """On a machine that reaches AWS's registry it is Amazon Linux's own."""
    containers = Containers(bench.home / "containers")
    builder: ContainerBuilder = bench.builder
    if where == "host":
        builder = HostBuilder(containers, ManagedImages(containers, bench.home / "base"), bench.network)
    directory, lines = Path(tempfile.mkdtemp(dir=bench.home)), list[str]()
    (directory / "context").mkdir()
    (directory / "context/Dockerfile").write_text(DOCKERFILE)

    async def take(line: str) -> None:
        lines.append(line)

    work = ContainerBuild(PLAN, directory, directory / "context", directory / "root.erofs", 900, lines.append, take)
    try:
        await builder.build(work)
    except BuildError as error:
        pytest.fail("\n".join([*lines, str(error)]))
    finally:
        await containers.close()
        await asyncio.to_thread(shutil.rmtree, directory)
    text = "\n".join(lines)
    if "stands for the local Debian 12 base" in text:
        assert "NOTE: shadow-utils is passwd on Debian" in text
