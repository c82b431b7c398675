"""The documentation as a site: built strictly, with nothing from elsewhere, and with a reference that is current."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel="?(?:stylesheet|preload|icon)"?)[^>]*?(?:src|href)="?(https?:)?//"""
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "website" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_as_the_code_is() -> None:
    """Write it anew with `python website/reference.py`."""
    reference = load("reference")
    pages = reference.make_pages()
    assert {path.name for path in reference.DIRECTORY.iterdir()} == set(pages)
    for name, text in pages.items():
        assert (reference.DIRECTORY / name).read_text() == text


def test_every_page_is_in_the_site_and_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    load("build").build(tmp_path / "site")
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 80
    for page in pages:
        made = tmp_path / "site" / (page.with_name("index.html") if page.stem == "README" else page)
        assert made.is_file(), page
        assert not LOADED.search(made.read_text()), page


@pytest.mark.parametrize("link", ["no-such-page.md", "security.md#no-such-heading"])
def test_a_link_that_leads_nowhere_ends_the_build(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    build = load("build")
    staged = build.stage

    def stage(pages: Path) -> None:
        staged(pages)
        (pages / "s3.md").write_text(f"# S3\n\nSee [there]({link}).\n")

    monkeypatch.setattr(build, "stage", stage)
    with pytest.raises(SystemExit):
        build.build(tmp_path / "site")
    assert not (tmp_path / "site").exists()
