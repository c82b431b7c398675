"""Bundle the console's page: fetch the libraries that package-lock.json names, and let esbuild put them together.

Needs Python and a registry of npm packages, neither Node.js nor npm: packages are archives, which are held against the
lock's checksums, and esbuild is one program. Run by agent/build.py when the package is installed or built, and by
`python console/build.py` in a checkout; `--tools` also fetches what the tests use.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "src" / "emberbox" / "_console"
MODULES = HERE / "node_modules"
REGISTRY = "https://registry.npmjs.org"  # npm's own default
SETTINGS = (Path.home() / ".npmrc", Path("/etc/npmrc"), Path("/usr/etc/npmrc"))
DOWNLOAD_TIMEOUT_S = 60
ATTEMPTS = 3

ENTRY = "src/main.tsx"
OPTIONS = [
    "--bundle", "--minify", "--format=esm", "--splitting", "--target=es2022",
    "--jsx=automatic", "--jsx-import-source=preact", "--legal-comments=linked",
    "--entry-names=[name]-[hash]", "--chunk-names=[name]-[hash]", "--asset-names=[name]-[hash]", "--log-level=warning",
]  # fmt: skip
TOOLS = ("axe-core", "typescript")


class BuildError(Exception):
    """The page could not be made; the text says what to do."""


def build(*, tools: bool = False) -> bool:
    """Make the page, unless it is newer than all it is made of; say whether it was made.

    Args:
        tools: fetch what the tests use, too.

    Raises:
        BuildError: a library cannot be fetched, or the sources have an error.
    """
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    if tools:
        for name in TOOLS:
            _ensure(f"node_modules/{name}", lock)
    manifest = OUTPUT / "manifest.json"
    if manifest.exists() and manifest.stat().st_mtime >= max(path.stat().st_mtime for path in _inputs()):
        return False
    bundled = [where for where, package in lock.items() if where and not package.get("dev")]
    esbuild = f"node_modules/@esbuild/linux-{ {'x86_64': 'x64', 'aarch64': 'arm64'}[platform.machine()] }"
    for where in (*bundled, esbuild):
        _ensure(where, lock)
    _bundle(HERE / esbuild / "bin" / "esbuild")
    _write_licences(bundled)
    return True


def _inputs() -> Iterator[Path]:
    yield from (path for path in (HERE / "src").rglob("*") if path.is_file())
    yield from (HERE / "package-lock.json", Path(__file__))


def _bundle(esbuild: Path) -> None:
    scratch = OUTPUT.with_name("_console.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    meta = scratch / "meta.json"
    command = [str(esbuild), ENTRY, *OPTIONS, f"--outdir={scratch}", f"--metafile={meta}"]
    if subprocess.run(command, cwd=HERE, check=False).returncode:
        raise BuildError("esbuild found errors in console/src")
    outputs = json.loads(meta.read_text())["outputs"]
    entry = next((name, row) for name, row in outputs.items() if row.get("entryPoint") == ENTRY)
    manifest = {"script": Path(entry[0]).name, "style": Path(entry[1]["cssBundle"]).name}
    meta.unlink()
    (scratch / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(OUTPUT, ignore_errors=True)
    scratch.rename(OUTPUT)


def _write_licences(bundled: list[str]) -> None:
    """Put the licences of what is bundled beside it."""
    texts = []
    for where in bundled:
        found = sorted(path for path in (HERE / where).iterdir() if path.name.upper().startswith("LICEN"))
        texts += [f"{where.removeprefix('node_modules/')}\n\n{path.read_text()}" for path in found]
    (OUTPUT / "licences.txt").write_text("\n\n".join(texts))


# --- packages


def _ensure(where: str, lock: dict[str, Any]) -> None:
    """Have a package of the lock unpacked in its place."""
    package, directory = lock[where], HERE / where
    stamp = directory / ".integrity"
    if stamp.exists() and stamp.read_text() == package["integrity"]:
        return
    name = where.removeprefix("node_modules/")
    url = f"{_registry()}/{name}/-/{name.rpartition('/')[2]}-{package['version']}.tgz"
    data = _fetch(url, name)
    _check(data, package["integrity"], name)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            top, _, rest = member.name.partition("/")
            if top and rest:
                member.name = rest  # archives of npm have everything in one directory
                archive.extract(member, directory, filter="data")
    stamp.write_text(package["integrity"])


def _registry() -> str:
    """Return where npm would look for packages on this machine."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    for path in SETTINGS:
        lines = path.read_text().splitlines() if path.is_file() and os.access(path, os.R_OK) else []
        for line in lines:
            key, _, value = line.partition("=")
            if key.strip() == "registry":
                return value.strip().rstrip("/")
    return REGISTRY


def _fetch(url: str, name: str) -> bytes:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 - npm's registry
                return bytes(answer.read())
        except OSError as error:
            if attempt == ATTEMPTS:
                raise BuildError(
                    f"{name} cannot be fetched for the console ({error}); npm_config_registry names the registry "
                    "of npm packages to ask"
                ) from error
            time.sleep(attempt)
    raise AssertionError("it returns or raises")


def _check(data: bytes, integrity: str, name: str) -> None:
    algorithm, _, expected = integrity.partition("-")
    if algorithm != "sha512" or base64.b64encode(hashlib.sha512(data).digest()).decode() != expected:
        raise BuildError(f"what the registry sent for {name} is not what package-lock.json names")


if __name__ == "__main__":
    try:
        build(tools="--tools" in sys.argv)
    except BuildError as problem:
        sys.exit(f"console: {problem}")
