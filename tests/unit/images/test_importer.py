"""Images are gathered by a process of its own, and what it tells becomes the build's log and its outcome."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.images.base import BuildPlan
from emberbox.images.containers import BuildNetwork
from emberbox.images.importer import ImageImporter, Registries
from emberbox.model.egress import EgressPolicy
from emberbox.model.errors import BuildError, HostError
from emberbox.model.sizes import SIZES
from support.container_images import MadeImage, docker_archive, entry, logins, make_tar, oci_archive, small_registry

IMAGE = MadeImage([make_tar(entry("a", b"x"))], is_packed=False)
PLAN = BuildPlan(
    build_id="b", image_id="i", image_name="n", image_arn="a", version="1.0", region="r", artifact_uri="s3://b/k",
    readable_prefixes=None, account_id="000000000000", size=SIZES[512], environment={}, all_capabilities=False,
    ready=None, validate=None,
)  # fmt: skip
LIMITS = (1 << 20, 1 << 20, 60.0)


async def gather(importer: ImageImporter, plan: BuildPlan, directory: Path, archive: bytes = b"") -> list[str]:
    lines: list[str] = []

    async def take(line: str) -> None:
        lines.append(line)

    (directory / "artifact").write_bytes(archive)
    await importer.gather(plan, directory / "artifact", directory / "layout", LIMITS, take)
    return lines


async def test_an_archive_is_gathered(tmp_path: Path) -> None:
    lines = await gather(ImageImporter(), PLAN, tmp_path, docker_archive(IMAGE))
    assert lines[0].endswith(": 1 layers, 0.0 MB")
    assert (tmp_path / "layout/index.json").exists()
    assert not (tmp_path / "import.json").exists()


async def test_what_is_wrong_is_the_builds(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="ARCHIVE_INVALID: it is no intact archive"):
        await gather(ImageImporter(), PLAN, tmp_path, b"\x1f\x8b")


async def test_what_an_image_says_at_length_is_not_told_at_length(tmp_path: Path) -> None:
    image = MadeImage([make_tar(entry("a"))], layer_type="x" * (1 << 20))
    with pytest.raises(BuildError, match="a layer is of the media type") as caught:
        await gather(ImageImporter(), PLAN, tmp_path, oci_archive(image))
    assert len(str(caught.value)) < 3000


@contextlib.asynccontextmanager
async def nowhere(_egress: EgressPolicy | None) -> AsyncIterator[BuildNetwork]:
    raise HostError("the network of builds")
    yield BuildNetwork()


async def test_a_registry_that_is_named_is_asked_from_the_host_with_the_operators_login(tmp_path: Path) -> None:
    with small_registry() as registry:
        registry.push("1", IMAGE)
        registry.wants = "bearer"
        (tmp_path / "config.json").write_text(logins(registry.address))
        named = Registries({registry.address: True}, tmp_path / "config.json")
        plan = replace(PLAN, artifact_uri=f"docker://{registry.address}/x:1")
        await gather(ImageImporter(named, nowhere), plan, tmp_path)
        assert (tmp_path / "layout/index.json").exists()


async def test_another_is_asked_from_the_network_of_builds(tmp_path: Path) -> None:
    plan = replace(PLAN, artifact_uri="oci://registry.test/x")
    with pytest.raises(HostError, match="the network of builds"):
        await gather(ImageImporter(Registries({"other.test": False}), nowhere), plan, tmp_path)


async def test_a_file_of_logins_that_cannot_be_read_is_the_machines_fault(tmp_path: Path) -> None:
    importer = ImageImporter(Registries({"registry.test": False}, tmp_path / "missing"))
    with pytest.raises(HostError, match="EMBERBOX_REGISTRY_AUTH"):
        await gather(importer, replace(PLAN, artifact_uri="oci://registry.test/x"), tmp_path)


async def test_a_registry_that_says_nothing_is_not_waited_for_longer_than_a_build(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        importer, plan = ImageImporter(Registries({address: True})), replace(PLAN, artifact_uri=f"oci://{address}/x")
        with pytest.raises(BuildError, match="was not read within"):
            await importer.gather(plan, tmp_path / "artifact", tmp_path / "layout", (1, 1, 0.5), _drop)


async def _drop(_line: str) -> None:
    """Take no line."""
