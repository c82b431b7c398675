"""Kernel modules go where the image's own links lead, and not over those that it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from emberbox.images.modules import find_modules

RELEASE = "6.1.0-1-cloud-amd64"


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    directory = tmp_path / RELEASE
    (directory / "kernel").mkdir(parents=True)
    (directory / "kernel/x.ko").write_bytes(b"module")
    (directory / "modules.dep").write_bytes(b"kernel/x.ko:\n")
    return directory


def added(root: Path, modules: Path) -> dict[str, bytes]:
    return {file.path: file.content for file in find_modules(root, modules, RELEASE)}


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "../../usr/lib"])
def test_links_lead_inside_the_image(tmp_path: Path, modules: Path, target: str) -> None:
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to(target)
    assert added(root, modules) == {
        f"/usr/lib/modules/{RELEASE}/kernel/x.ko": b"module",
        f"/usr/lib/modules/{RELEASE}/modules.dep": b"kernel/x.ko:\n",
    }


def test_an_image_without_anything_gets_them(tmp_path: Path, modules: Path) -> None:
    (tmp_path / "root").mkdir()
    assert set(added(tmp_path / "root", modules)) == {
        f"/lib/modules/{RELEASE}/kernel/x.ko", f"/lib/modules/{RELEASE}/modules.dep",
    }  # fmt: skip


def test_modules_of_the_images_own_stay(tmp_path: Path, modules: Path) -> None:
    own = tmp_path / "root/lib/modules" / RELEASE
    own.mkdir(parents=True)
    (own / "modules.dep").touch()
    assert added(tmp_path / "root", modules) == {}


def test_where_there_can_be_none_there_are_none(tmp_path: Path, modules: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/lib").write_text("a file")
    assert added(tmp_path / "root", modules) == {}
