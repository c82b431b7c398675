"""Figures of the code's shape, by package: sizes of modules, functions and classes, comments, annotations, `Any`.

    .venv/bin/python tests/support/figures.py [DIRECTORY]     # src/emberbox where none is named

docs/decisions/0030-shape-of-the-code.md says what they are for.
"""

from __future__ import annotations

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src/emberbox"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Item:
    """A function with its lines, or a class with its methods."""

    where: str
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Module:
    """One file.

    Attributes:
        path: below the directory that is looked at.
        lines: of all kinds.
        comments: lines that have one.
        functions: with their lines, without those of the decorators.
        classes: with the number of their methods.
        annotated: functions whose parameters and result all have a type.
        anys: how often `Any` is used, apart from imports.
    """

    path: str
    lines: int
    comments: int
    functions: tuple[Item, ...]
    classes: tuple[Item, ...]
    annotated: int
    anys: int


def read_modules(directory: Path = SOURCES) -> list[Module]:
    """Return the figures of every module below a directory; what `emberbox init` writes is no part of it."""
    paths = [path for path in sorted(directory.rglob("*.py")) if "starters" not in path.parts]
    return [_read(path, path.relative_to(directory).as_posix()) for path in paths]


def _read(path: Path, name: str) -> Module:
    text = path.read_text()
    nodes = list(ast.walk(ast.parse(text)))
    functions = [node for node in nodes if isinstance(node, FunctionNode)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Module(
        path=name,
        lines=text.count("\n"),
        comments=sum(token.type == tokenize.COMMENT for token in tokens),
        functions=tuple(Item(name, node.name, (node.end_lineno or 0) - node.lineno + 1) for node in functions),
        classes=tuple(Item(name, node.name, _count_methods(node)) for node in nodes if isinstance(node, ast.ClassDef)),
        annotated=sum(_is_annotated(node) for node in functions),
        anys=sum(isinstance(node, ast.Name) and node.id == "Any" for node in nodes),
    )


def _count_methods(node: ast.ClassDef) -> int:
    return sum(isinstance(member, FunctionNode) and not member.name.startswith("__") for member in node.body)


def _is_annotated(node: FunctionNode) -> bool:
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    typed = all(one.annotation is not None or one.arg in ("self", "cls") for one in named)
    return typed and node.returns is not None


def _at(values: Sequence[int], share: float) -> int:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0


def _row(name: str, modules: Sequence[Module]) -> str:
    sizes = [module.lines for module in modules]
    functions = [item.size for module in modules for item in module.functions]
    classes = [item.size for module in modules for item in module.classes]
    comments = 100 * sum(module.comments for module in modules) / max(1, sum(sizes))
    annotated = 100 * sum(module.annotated for module in modules) / max(1, len(functions))
    return (
        f"{name:<12} {len(modules):>4} {sum(sizes):>7}   "
        f"{int(statistics.median(sizes)):>4} {_at(sizes, 0.9):>4} {max(sizes):>5}   "
        f"{int(statistics.median(functions or [0])):>4} {_at(functions, 0.9):>4} {max(functions, default=0):>4}   "
        f"{max(classes, default=0):>4}   {comments:>5.1f} {annotated:>5.0f}   "
        f"{sum(module.anys for module in modules):>4}"
    )


def _table(modules: Sequence[Module]) -> Iterator[str]:
    yield f"{'':<27}module:           function:        class:   comments"
    yield "package      files  lines    median p90 max   median p90 max   methods   %   typed %   Any"
    packages: dict[str, list[Module]] = {}
    for module in modules:
        head, slash, _ = module.path.partition("/")
        packages.setdefault(head if slash else "(loose)", []).append(module)
    for name, inside in sorted(packages.items(), key=lambda pair: -sum(module.lines for module in pair[1])):
        yield _row(name, inside)
    yield _row("all", modules)


if __name__ == "__main__":
    chosen = read_modules(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCES)
    sys.stdout.write("\n".join(_table(chosen)) + "\n")
