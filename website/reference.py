"""Write docs/reference from code: settings, the command line, the Python SDK. `python website/reference.py`."""

from __future__ import annotations

import enum
import html
import inspect
import subprocess
import sys
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import emberbox_sdk
from emberbox.settings import FILE_NAME, PREFIX, Settings

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "reference"

_LINE_CHARACTERS = 100

_SETTINGS = (
    f"Variables of the server's environment; `{FILE_NAME}` in its home has the same names in lower case, without "
    f"`{PREFIX}`. `emberbox settings` shows the values in force."
)
_SDK = (
    "For each class there is one for asyncio, `AsyncSandbox` of `Sandbox` and so on: its methods are the same and are "
    "awaited. How it is used: [the Python SDK](../sdk.md)."
)

_FIRST = ("Sandbox", "Image", "Client", "Config")
"""What a reader of the SDK's page looks for first; the rest comes by its name."""


def make_pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    return {"settings.md": settings(), "command-line.md": command_line(), "sdk.md": sdk()}


def settings() -> str:
    """Return the page of the server's settings."""
    lines = [
        "# Settings",
        "",
        _SETTINGS,
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for row in fields(Settings):
        default = "`/var/lib/emberbox` for root, else `~/.local/share/emberbox`"
        if row.default is not MISSING:
            default = f"`{row.default}`" if str(row.default) else "empty"
        meaning = html.escape(row.metadata["help"], quote=False).replace("|", "\\|")
        lines.append(f"| `{PREFIX}{row.name.upper()}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Return the page of the command line, as typer writes it."""
    command = [sys.executable, "-m", "typer", "emberbox.cli.main", "utils", "docs", "--name", "emberbox"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text.replace("# `emberbox`", "# The command line", 1)


def sdk() -> str:
    """Return the page of what the SDK's package has."""
    names = [name for name in emberbox_sdk.__all__ if not name.startswith("Async")]
    ordered = [*_FIRST, *sorted(set(names) - set(_FIRST))]
    parts = [
        "# The Python SDK, name by name",
        "",
        _SDK,
    ]
    for name in ordered:
        parts += ["", f"## {name}", "", *_describe(name, getattr(emberbox_sdk, name))]
    return "\n".join(parts) + "\n"


def _describe(name: str, what: Any) -> list[str]:
    lines = _quote(what)
    if isinstance(what, type) and not issubclass(what, enum.Enum | Exception):
        for member, value in vars(what).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if member.startswith("_") or not (inspect.isfunction(function) or isinstance(value, property)):
                continue
            lines += ["", f"### {name}.{member}", ""]
            if inspect.isfunction(function):
                lines += ["```python", *_sign(member, function), "```", ""]
            lines += _quote(value)
    return lines


class _Bare(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _sign(name: str, function: Any) -> list[str]:
    """Return how a function is called: in a line, or with a line for each parameter."""
    signature = inspect.signature(function)
    shown = [
        parameter.replace(annotation=_Bare(parameter.annotation))
        if isinstance(parameter.annotation, str)
        else parameter
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    answer = "" if signature.return_annotation == "None" else f" -> {signature.return_annotation}"
    words = [str(parameter) for parameter in shown]
    kinds = [parameter.kind for parameter in shown]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        words.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    line = f"{name}({', '.join(words)}){answer}"
    return [line] if len(line) <= _LINE_CHARACTERS else [f"{name}(", *(f"    {word}," for word in words), f"){answer}"]


def _quote(what: Any) -> list[str]:
    """Return a docstring as it stands: its sections have an indent that says what belongs to what."""
    text = inspect.getdoc(what) or ""
    first, _, rest = text.partition("\n\n")
    lines = [html.escape(first, quote=False)]
    if rest:
        lines += ["", textwrap.indent(rest, "    ")]
    return lines


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in make_pages().items():
        (DIRECTORY / name).write_text(text)
