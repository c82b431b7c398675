"""`emberbox init`: an application to begin with, with a Dockerfile and hooks."""

from __future__ import annotations

import sys
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from emberbox.cli.context import command_name
from emberbox.model.errors import HostError

_STARTERS = files("emberbox.cli").joinpath("starters")
_RENAMED = {"dockerignore": ".dockerignore"}

README = """\
# {name}

    {command} dev {directory}      # builds it, runs it at http://127.0.0.1:8080/, and again whenever a file changes

`Dockerfile` says what is in the image, `microvm-image.json` what else CreateMicrovmImage is told: memory, variables,
and which hooks the application has. By its hooks it learns that it was launched from a snapshot (`/run`), is to be
suspended, goes on, or ends.
"""


class Starter(StrEnum):
    """What there is to begin with."""

    PYTHON = "python"
    NODE = "node"
    SHELL = "shell"


def init(
    directory: Annotated[Path, typer.Argument(help="Where to; it is made.")] = Path(),
    template: Annotated[
        Starter | None, typer.Option("--template", "-t", help="The language; asked for on a terminal.")
    ] = None,
) -> None:
    """Write a Dockerfile and a small application with hooks, to begin with."""
    chosen = template or _ask()
    for path in write_starter(chosen, directory):
        print(f"wrote {path}")
    print(f"next: {command_name()} dev {directory}")


def _ask() -> Starter:
    if not sys.stdin.isatty():
        return Starter.PYTHON
    names = ", ".join(Starter)
    while True:
        given = typer.prompt(f"Which language ({names})?", default=Starter.PYTHON.value)
        if given in list(Starter):
            return Starter(given)


def write_starter(starter: Starter, directory: Path) -> list[Path]:
    """Write the files of a starter; return their paths.

    Raises:
        HostError: some are there already, or cannot be written; then none is written.
    """
    contents = {
        directory / _RENAMED.get(one.name, one.name): _read(one) for one in _STARTERS.joinpath(starter).iterdir()
    }
    name = directory.resolve().name
    contents[directory / "README.md"] = README.format(name=name, command=command_name(), directory=directory), False
    if present := sorted(str(path) for path in contents if path.exists() or path.is_symlink()):
        raise HostError(f"{', '.join(present)}: there already; nothing was written. Name another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, (text, is_program) in contents.items():
            path.write_text(text)
            if is_program:
                path.chmod(path.stat().st_mode | 0o111)
    except OSError as error:
        raise HostError(f"{error.filename} cannot be written: {error.strerror}") from error
    return sorted(contents)


def _read(one: Traversable) -> tuple[str, bool]:
    text = one.read_text()
    return text, text.startswith("#!")
