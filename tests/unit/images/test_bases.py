"""Images that are gathered ahead of a build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emberbox.images.bases import BASES_MAX, NO_SUBSTITUTES, Bases
from emberbox.images.importer import ImageImporter, Registries
from emberbox.images.substitutes import Base, Substitutes
from emberbox.model.errors import BuildError
from support.build_bench import PLAN
from support.container_images import MadeImage, SmallRegistry, entry, logins, make_tar, small_registry

LIMITS = (1 << 20, 1 << 20, 60.0)
NOTHING_TO_RUN = MadeImage([make_tar(entry("a", b"x"))], {}, is_packed=False)
DOCKERFILE = "FROM python:3.12\nCOPY --from=local /a /a\nFROM other\n"


def make_bases(registry: SmallRegistry, directory: Path) -> Bases:
    registry.push("3.12", NOTHING_TO_RUN)
    registry.wants = "basic"
    (directory / "config.json").write_text(logins(registry.address))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    rows = {"python:3.12": f"{registry.address}/python:3.12", "local": "emberbox/debian:12"}
    return Bases(ImageImporter(Registries({registry.address: True}, directory / "config.json")), Substitutes(rows))


async def test_what_has_a_row_is_fetched_with_the_operators_login(tmp_path: Path) -> None:
    """It need not say what to run; the log tells what is used; what has no row is the builder's to find."""
    lines: list[str] = []

    async def take(line: str) -> None:
        lines.append(line)

    with small_registry() as registry:
        bases = make_bases(registry, tmp_path)
        found = await bases.gather(PLAN, tmp_path, tmp_path / "bases", LIMITS, take)
        used, layout = f"{registry.address}/python:3.12", tmp_path / "bases/0/layout"
        assert found == (Base("python:3.12", used, layout), Base("local", "emberbox/debian:12"))
        assert (layout / "index.json").exists()
        assert f"NOTE: {used} is used in place of python:3.12 (EMBERBOX_STAND_INS)" in lines
        assert not any("NOTE: STOPSIGNAL" in line for line in lines)


async def test_an_artifact_that_is_an_image_goes_by_the_same_table(tmp_path: Path) -> None:
    async def take(_line: str) -> None:
        pass

    with small_registry() as registry:
        bases = make_bases(registry, tmp_path)
        plan = replace(PLAN, artifact_uri="oci://docker.io/library/python:3.12")
        with pytest.raises(BuildError, match="nothing to run"):
            await bases.gather_image(plan, tmp_path / "x", tmp_path / "layout", LIMITS, take)
        assert registry.asked[0][0] == "/v2/python/manifests/3.12"


async def test_without_a_table_the_dockerfile_is_not_read(tmp_path: Path) -> None:
    async def take(line: str) -> None:
        raise AssertionError(line)

    assert await Bases(ImageImporter(), NO_SUBSTITUTES).gather(PLAN, tmp_path, tmp_path / "x", LIMITS, take) == ()


async def test_a_dockerfile_cannot_have_everything_fetched(tmp_path: Path) -> None:
    async def take(_line: str) -> None:
        pass

    (tmp_path / "Dockerfile").write_text("".join(f"FROM x{number}\n" for number in range(BASES_MAX + 1)))
    rows = {f"x{number}": "emberbox/debian:12" for number in range(BASES_MAX + 1)}
    with pytest.raises(BuildError, match=f"more than {BASES_MAX}"):
        await Bases(ImageImporter(), Substitutes(rows)).gather(PLAN, tmp_path, tmp_path / "x", LIMITS, take)
