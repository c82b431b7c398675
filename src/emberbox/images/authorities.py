"""Authorities of the operator's, which builds and guests trust: one file, and the variables that name it.

Steps of a build have the file as a mount, and the variables from outside the Dockerfile (step_runtime.py): so they are
in no layer and no image's config, and no reason to run a step again. Guests have what their image was packed with. This
module needs the standard library alone: it is used in sandboxes too.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from pathlib import Path
from typing import Final

from emberbox.images import step_runtime
from emberbox.images.randomness import DIRECTORY, AddedFile, Additions

IN_IMAGE: Final = f"{DIRECTORY}/authorities.pem"
SERVERS_VARIABLE: Final = "SSL_CERT_FILE"
"""What the builders' own programs read it from: Go, and Python's ssl."""


def with_authorities(additions: Additions, authorities: str) -> Additions:
    """Return what an image gets, with authorities beside it.

    Args:
        additions: the other things.
        authorities: the text of a file (PEM); empty: none.
    """
    if not authorities:
        return additions
    return dataclasses.replace(
        additions,
        files=(*additions.files, AddedFile(IN_IMAGE, authorities.encode())),
        environment=(*additions.environment, *((name, IN_IMAGE) for name in step_runtime.VARIABLES)),
    )


def write_file(directory: Path, authorities: str) -> Path:
    """Write authorities into a directory, for every user to read; return the file."""
    path = directory / "authorities.pem"
    path.write_text(authorities)
    path.chmod(0o644)
    return path


def write_runtime(directory: Path, authorities: Path, python: str) -> Path:
    """Write a program `runc` into a directory: the machine's own, whose containers trust authorities.

    Args:
        directory: where it goes.
        authorities: their file.
        python: the interpreter.

    Raises:
        FileNotFoundError: there is no runc.
    """
    runc = shutil.which("runc")
    if runc is None:
        raise FileNotFoundError("runc")
    path = directory / "runc"
    wrapped = shlex.join([python, "-I", "-S", str(Path(step_runtime.__file__)), str(authorities), runc])
    path.write_text(
        f'#!/bin/sh\ncase " $* " in *" run "* | *" create "*) exec {wrapped} "$@" ;; esac\nexec {runc} "$@"\n'
    )
    path.chmod(0o755)
    return path
