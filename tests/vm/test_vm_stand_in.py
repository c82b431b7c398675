"""What stands for images that cannot be had: Debian with `dnf` for Amazon Linux, and what the operator's table says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from emberbox.images.bases import Bases
from emberbox.images.importer import ImageImporter, Registries
from emberbox.images.substitutes import Substitutes
from support.build_bench import BuildBench, build_bench, opened
from support.container_images import MadeImage, basic, entry, logins, make_tar, small_registry

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds that are compared have networks of their own, as root makes"),
]

AWS = "public.ecr.aws/lambda/microvms:al2023-minimal"
DOCKERFILE = f"""\
FROM --platform=linux/arm64 {AWS}
RUN dnf install -y --setopt=install_weak_deps=0 tree shadow-utils && tree --version && dnf clean all
CMD ["sleep", "infinity"]
"""
MIRRORED = """\
ARG VERSION=3.12
FROM python:${VERSION}-slim AS python
RUN cat /marker > /seen
FROM local/base
COPY --from=python /seen /marker /
COPY --from=ghcr.io/somebody/tool:1 /tool /tool
CMD ["true"]
"""


@pytest.fixture
async def bench() -> AsyncIterator[BuildBench]:
    async with build_bench() as bench:
        yield bench


@pytest.mark.parametrize("on_host", [True, False])
async def test_dnf_installs_packages(on_host: bool, bench: BuildBench) -> None:
    """Also where the base is asked for by another platform; where AWS's registry is reached, dnf is AWS's own."""
    built = await bench.build(DOCKERFILE, on_host=on_host)
    assert built.error is None, built.text
    assert "NOTE: --platform=linux/arm64 is ignored; images are linux/amd64 here" in built.lines
    if "stands for the local Debian 12 base" in built.text:
        assert "NOTE: shadow-utils is passwd on Debian" in built.text


@pytest.mark.parametrize("on_host", [True, False])
async def test_the_operators_table_leads_to_a_mirror_with_a_login(
    on_host: bool, bench: BuildBench, tmp_path: Path
) -> None:
    """The host fetches what has a row, from a registry that builds do not reach; they get files, and no login."""
    await bench.builder.prepare(lambda _line: None)
    debian = (bench.home / "base/debian12.tar").read_bytes()
    with small_registry() as registry:
        registry.push("3.12-slim", MadeImage([debian, make_tar(entry("marker", b"of the mirror"))], {}))
        registry.push("1", MadeImage([make_tar(entry("tool", b"a tool"))], {}))
        registry.wants = "basic"
        (tmp_path / "config.json").write_text(logins(registry.address))
        rows = {
            "docker.io/library/*": f"{registry.address}/hub/*",
            "ghcr.io/somebody/tool:1": f"{registry.address}/tool:1",
            "local/base": "emberbox/debian:12",
        }
        importer = ImageImporter(Registries({registry.address: True}, tmp_path / "config.json"))
        # The host's buildah does not look for a name with ARGs among those that it is given.
        dockerfile = MIRRORED.replace("${VERSION}", "3.12") if on_host else MIRRORED
        built = await bench.build(dockerfile, on_host=on_host, substitutes=Bases(importer, Substitutes(rows)))
        assert built.error is None, built.text
        assert {path.split("/")[2] for path, login in registry.asked if login == basic()} == {"hub", "tool"}
    with opened(built.packed) as root:
        assert (root / "seen").read_text() == (root / "marker").read_text() == "of the mirror"
        assert (root / "tool").read_text() == "a tool"
