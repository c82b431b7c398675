"""The console's page: its sources have types, its lock names no registry, and what is fetched is what the lock says."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSOLE = ROOT / "console"


@pytest.fixture
def build() -> ModuleType:
    """Return `console/build.py`."""
    spec = importlib.util.spec_from_file_location("console_build", CONSOLE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sources_have_types() -> None:
    compiler = CONSOLE / "node_modules/typescript/bin/tsc"
    assert compiler.exists(), "TypeScript is not there: python console/build.py --tools"
    node = shutil.which("node")
    assert node, "apt-get install nodejs"
    done = subprocess.run([node, compiler, "--noEmit", "-p", CONSOLE], capture_output=True, text=True)
    assert done.stdout == ""


def test_no_source_makes_markup_of_text() -> None:
    for path in (CONSOLE / "src").glob("*.ts*"):
        text = path.read_text()
        for word in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "dangerouslySetInnerHTML",
            "document.write",
            "eval(",
        ):
            assert word not in text, path.name


def test_the_lock_names_checksums_and_no_registry() -> None:
    packages = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    for where, package in packages.items():
        if where:
            assert package["integrity"].startswith("sha512-"), where
            assert "resolved" not in package, where


def test_what_is_fetched_must_be_what_the_lock_says(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "_fetch", lambda _url, _name: b"something else")
    lock = {"node_modules/one": {"version": "1.0.0", "integrity": "sha512-AAAA"}}
    with pytest.raises(build.BuildError, match=r"not what package-lock\.json names"):
        build._ensure("node_modules/one", lock)
    assert not (tmp_path / "node_modules/one").exists()


def test_the_registry_is_npms(build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build, "SETTINGS", (tmp_path / "npmrc",))
    assert build._registry() == build.REGISTRY
    (tmp_path / "npmrc").write_text("audit=false\nregistry=http://mirror.example/npm/\n")
    assert build._registry() == "http://mirror.example/npm"
    monkeypatch.setenv("npm_config_registry", "http://other.example/")
    assert build._registry() == "http://other.example"
