"""docs/clients.md, written from tests/clients: `python tests/support/clients_document.py`.

A module of tests names its client in `CLIENT`; the docstring of each test says what of it runs. What does not, and why,
is in clients.toml. A unit test holds the document against both.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "clients"
TABLE = TESTS / "clients.toml"
DOCUMENT = TESTS.parents[1] / "docs/clients.md"
HEAD = """\
# Other people's clients

Written by `python tests/support/clients_document.py` from `tests/clients`, in which these clients run against a server
as they are published: pinned, unmodified, with no more than what `emberbox env` prints, names that resolve
(`libnss-myhostname`) and port 443. `./run test --clients` runs them. Each sentence below "runs" is a test.
"""


@dataclass(frozen=True)
class Limit:
    """Something of a client's that does not run, and why."""

    client: str
    what: str
    why: str


def read_table() -> tuple[dict[str, dict[str, str]], list[Limit]]:
    """Return the clients by their names, and what does not run."""
    content = tomllib.loads(TABLE.read_text())
    return {row["name"]: row for row in content["client"]}, [Limit(**row) for row in content.get("limit", [])]


def sentences() -> Iterator[tuple[str, str]]:
    """Yield client and sentence of every test, in the order of the files."""
    for path in sorted(TESTS.glob("test_*.py")):
        body = ast.parse(path.read_text()).body
        client = next(
            ast.literal_eval(node.value)
            for node in body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CLIENT"
        )
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield client, " ".join((ast.get_docstring(node) or "").split())


def render() -> str:
    """Return the document."""
    clients, limits = read_table()
    parts = [HEAD]
    for name, row in clients.items():
        runs = [f"- {sentence}" for client, sentence in sentences() if client == name]
        missing = [f"- {limit.what}: {limit.why}" for limit in limits if limit.client == name]
        parts.append(f"\n## {name} {row['version']}\n\n{row['what'][0].upper()}{row['what'][1:]}.\n")
        parts += [f"\nRuns:\n\n{chr(10).join(runs)}\n"] if runs else []
        parts += [f"\nDoes not run:\n\n{chr(10).join(missing)}\n"] if missing else []
    return "".join(parts)


if __name__ == "__main__":
    DOCUMENT.write_text(render())
    sys.exit(0)
