"""docs/compatibility.md, written from the conformance tests: `python tests/support/compatibility.py`.

A conformance test that states a rule of AWS's is marked with the operations that the rule is about; its docstring is
the rule. The run checks that these operations were really answered (tests/conformance/conftest.py), and a unit test
that the document says what the tests say.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "conformance"
DOCUMENT = TESTS.parents[1] / "docs/compatibility.md"
DIFFERENCES = TESTS / "differences.toml"
SERVICES = ("lambda-microvms", "lambda-core", "logs")
_MANY = 9  # a rule about more operations than these is told once, at the top
HEAD = """\
# Compatibility with AWS

Written by `python tests/support/compatibility.py` from the conformance tests, in which unmodified AWS clients (boto3,
the AWS CLI, the SDK for JavaScript) call a running server. Each sentence is such a test; the run also holds every
answer against AWS's service model. What AWS does was taken from its documentation and from other people's
measurements of the real service; nothing here was compared with AWS side by side.

Limits that the models state (lengths, ranges, patterns, enumerations, required members) are checked from the models
for every operation, each at its edge and one past it (`tests/unit/edges/aws/test_limits.py`).
"""


@dataclass(frozen=True)
class Rule:
    """A rule of AWS's that a conformance test shows to hold: the operations, and the sentence."""

    operations: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Difference:
    """Something that is not as on AWS: of an operation (or `all`), what and why."""

    operation: str
    what: str
    why: str


def rules() -> Iterator[Rule]:
    """Yield the rules of all conformance tests, in the order of the files."""
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and (operations := _marked(node)):
                name = node.name.removeprefix("test_").replace("_", " ")
                told = " ".join((ast.get_docstring(node) or "").split())
                yield Rule(operations, f"{name[0].upper()}{name[1:]}: {told[:1].lower()}{told[1:]}")


def _marked(function: ast.FunctionDef) -> tuple[str, ...]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rule":
            return tuple(ast.literal_eval(argument) for argument in decorator.args)
    return ()


def differences() -> list[Difference]:
    """Return what is not as on AWS."""
    return [Difference(**row) for row in tomllib.loads(DIFFERENCES.read_text())["difference"]]


def render() -> str:
    """Return the document."""
    from emberbox.spec.models import operation_names

    by_operation: dict[str, list[Rule]] = defaultdict(list)
    for rule in rules():
        for operation in rule.operations:
            by_operation[operation].append(rule)
    differing = defaultdict(list)
    for difference in differences():
        differing[difference.operation].append(difference)
    broad = [f"* {rule.sentence}" for rule in rules() if len(rule.operations) > _MANY]
    parts = [HEAD, "## Across operations\n", *broad, *map(_render_difference, differing["all"])]
    for service in SERVICES:
        parts.append(f"\n## {service}\n")
        missing = []
        for name in operation_names(service):
            if name not in by_operation:
                missing.append(name)
                continue
            parts.append(f"\n### {name}\n")
            parts += [f"* {rule.sentence}" for rule in by_operation[name] if len(rule.operations) <= _MANY]
            parts += [_render_difference(difference) for difference in differing[name]]
        if missing:
            parts.append("\n### Not here\n")
            parts.append("These answer 501 NotImplementedException and name the operation: " + ", ".join(missing) + ".")
    return "\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


def _render_difference(difference: Difference) -> str:
    return f"* **Differs:** {difference.what} {difference.why}"


if __name__ == "__main__":
    sys.path.insert(0, str(DOCUMENT.parents[1] / "src"))
    DOCUMENT.write_text(render())
