"""The shape of the code stays within its bounds (docs/decisions/0030-shape-of-the-code.md)."""

from __future__ import annotations

from support.figures import read_modules

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 500
METHODS_MAX = 20

EXCEPTIONS: dict[str, str] = {
    "s3/index.py Rows": "one query each; whoever looks for a query of the index looks here",
    "store/images.py ImageStore": "one query each of three tables that change together",
}
"""What is larger all the same, and why."""


def test_what_is_too_large_is_named_with_a_reason() -> None:
    modules = read_modules()
    large = {module.path for module in modules if module.lines > MODULE_LINES_MAX}
    for module in modules:
        large |= {f"{item.where} {item.name}" for item in module.functions if item.size > FUNCTION_LINES_MAX}
        large |= {f"{item.where} {item.name}" for item in module.classes if item.size > METHODS_MAX}
    assert large == EXCEPTIONS.keys()


def test_every_function_has_types() -> None:
    assert [module.path for module in read_modules() if module.annotated != len(module.functions)] == []
