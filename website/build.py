"""Build the documentation as a site: docs/, and copies of the pages beside it that docs link to.

    python website/build.py [--output DIRECTORY] [--serve]

Strict: a link of a page that leads to no page, or to no heading of one, ends it. Nothing is loaded from elsewhere, so
the site can be read without a network; searching wants it served, by `--serve` or any web server.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUTPUT = ROOT / "website" / "output"
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md")
"""Pages of the repository's root, which docs link to."""

_LINK = re.compile(r"(\]\()((?:\.\./)+)([^)\s#]+)((?:#[^)\s]*)?\))")
_TO_DIRECTORY = re.compile(r"\]\((\w+)/\)")
_PORT = 8000


def build(output: Path) -> None:
    """Build the site into a directory, in place of what is in it.

    Raises:
        SystemExit: a page has a fault; it was printed.
    """
    with tempfile.TemporaryDirectory(prefix="emberbox-site-") as scratch:
        project = Path(scratch)
        stage(project / "docs")
        shutil.copy(HERE / "zensical.toml", project)
        command = [
            sys.executable,
            "-m",
            "zensical",
            "build",
            "--strict",
            "--config-file",
            str(project / "zensical.toml"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout}\n{done.stderr.partition('Traceback ')[0]}")
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(project / "output", output)


def stage(pages: Path) -> None:
    """Put together what the site is made of: all pages, and what they link to outside of docs/."""
    shutil.copytree(ROOT / "docs", pages)
    (pages / "project").mkdir()
    for name in BESIDE:
        text = (ROOT / name).read_text()
        text = re.sub(r"\]\(docs/", "](../", text)
        (pages / "project" / name).write_text(re.sub(r"\]\((examples/(?:\w+/)?)README\.md", r"](../\1index.md", text))
    for readme in sorted((ROOT / "examples").rglob("README.md")):
        place = pages / "examples" / readme.parent.relative_to(ROOT / "examples") / "index.md"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_TO_DIRECTORY.sub(r"](\1/index.md)", _lead(readme.read_text(), readme, place, pages)))
    for page in sorted((ROOT / "docs").rglob("*.md")):
        staged = pages / page.relative_to(ROOT / "docs")
        staged.write_text(_lead(page.read_text(), page, staged, pages))


def _lead(text: str, source: Path, staged: Path, pages: Path) -> str:
    """Lead links that go upwards to where the site has their target."""

    def replace(found: re.Match[str]) -> str:
        target = (source.parent / found[2] / found[3]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            place = pages / target.relative_to(ROOT / "docs")
        elif target.parent == ROOT and target.name in BESIDE:
            place = pages / "project" / target.name
        elif target.is_relative_to(ROOT / "examples") and target.name == "README.md":
            place = pages / "examples" / target.parent.relative_to(ROOT / "examples") / "index.md"
        else:
            raise SystemExit(f"{source}: a link leads to {found[3]}, of which the site has no copy: name it as `code`")
        ups = "../" * len(staged.parent.relative_to(pages).parts)
        return f"{found[1]}{ups}{place.relative_to(pages)}{found[4]}"

    return _LINK.sub(replace, text)


def serve(output: Path) -> None:
    """Serve the site on loopback until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(output))
    with http.server.ThreadingHTTPServer(("127.0.0.1", _PORT), handler) as server:
        print(f"http://127.0.0.1:{_PORT}/")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    build(given.output)
    print(f"built {given.output}")
    if given.serve:
        serve(given.output)
