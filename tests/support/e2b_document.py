"""Writes which calls of E2B's SDKs the tests make into docs/e2b.md: `PYTHONPATH=tests python -m support.e2b_document`.

The tests pass, so what they call is what works; what no test calls is listed too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2b import Sandbox, Template
from e2b.sandbox_sync.commands.command import Commands
from e2b.sandbox_sync.commands.pty import Pty
from e2b.sandbox_sync.filesystem.filesystem import Filesystem
from e2b.template.main import TemplateBuilder
from e2b_code_interpreter import Sandbox as CodeSandbox

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "e2b.md"
BEGIN: Final = "<!-- what the tests call; made by tests/support/e2b_document.py -->\n"
END: Final = "<!-- end of what the tests call -->"
_TESTS: Final = ("tests/unit/edges/e2b/test_*.py", "tests/vm/test_vm_e2b*.py")
_JAVASCRIPT: Final = {"e2b": "e2b.mjs", "@e2b/code-interpreter": "code.mjs"}


@dataclass(frozen=True, slots=True)
class Part:
    """Calls of an SDK that belong together.

    Args:
        title: what they are called.
        kind: the class that has them.
        pattern: where a call is seen, with a place for its name.
        without: a class whose calls do not count.
        of: what the names of the tests have in them that count.
    """

    title: str
    kind: type
    pattern: str
    without: type = object
    of: str = ""


_ON_SANDBOX: Final = r"(?<!commands)(?<!pty)(?<!files)\.{}\b"
PARTS: Final = (
    Part("`Sandbox`", Sandbox, _ON_SANDBOX),
    Part("`Sandbox.commands`", Commands, r"\bcommands\.{}\b"),
    Part("`Sandbox.files`", Filesystem, r"\bfiles\.{}\b"),
    Part("`Sandbox.pty`", Pty, r"\bpty\.{}\b"),
    Part("`Sandbox` of `e2b-code-interpreter`", CodeSandbox, _ON_SANDBOX, Sandbox),
    Part("`Template`", Template, r"Template(?:\([^)]*\))?\s*\.{}\b", of="templates"),
    Part("the builder that `Template().from_…` returns", TemplateBuilder, r"\)\s*\.{}\(", of="templates"),
)


def calls_of(part: Part) -> Iterator[str]:
    """Yield the public calls of a part."""
    for name in sorted(set(dir(part.kind)) - set(dir(part.without))):
        member: Callable[..., object] | object = getattr(part.kind, name)
        if not name.startswith("_") and callable(member):
            yield name


def read_tests(of: str) -> str:
    """Return the text of the tests with E2B's SDKs for Python whose names have something in them."""
    found = [path for pattern in _TESTS for path in sorted(ROOT.glob(pattern))]
    return "\n".join(path.read_text() for path in found if of in path.name)


def write_table() -> str:
    """Return the section of the document."""
    rows = []
    for part in PARTS:
        text, calls = read_tests(part.of), list(calls_of(part))
        called = [name for name in calls if re.search(part.pattern.format(name), text)]
        left = [name for name in calls if name not in called]
        rows.append(f"| {part.title} | {_show(called)} | {_show(left)} |")
    head = "| Of the packages for Python | called by tests | by none |\n| --- | --- | --- |"
    others = [f"Of `{name}` for JavaScript: {_show(_javascript(script))}." for name, script in _JAVASCRIPT.items()]
    return "\n".join([head, *rows, "", "\n\n".join(others)]) + "\n"


def _javascript(script: str) -> Sequence[str]:
    text = (ROOT / "tests/conformance/javascript" / script).read_text()
    return sorted(set(re.findall(r"\b(?:sandbox|again|Sandbox)\.((?:commands\.|files\.|pty\.)?\w+)\(", text)))


def _show(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def put_in(document: str) -> str:
    """Return the document with the section as it is now."""
    before, _, rest = document.partition(BEGIN)
    return before + BEGIN + "\n" + write_table() + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(put_in(DOCUMENT.read_text()))
