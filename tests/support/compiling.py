"""Parts of the agent and the keeper, compiled for tests: with a sanitizer, and drivers of the tests' own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

AGENT = Path(__file__).resolve().parents[2] / "agent"
PROGRAM = ("-target", "x86_64-linux-musl", "-static")
LIBRARY = ("-target", "x86_64-linux-gnu.2.31", "-shared", "-fPIC")

_OPTIONS = ("-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{AGENT}")
_STRIPPED = "-s"
"""As agent/build.py has it: else the C library is compiled once more, for half a minute."""

_SANITIZED = ("-fsanitize=undefined", "-fsanitize-trap=undefined")


def compile_c(made: Path, sources: Sequence[Path], kind: Sequence[str] = PROGRAM) -> Path:
    """Compile files of C, those of the agent's directory by their names alone; return what was made.

    Args:
        made: where it goes.
        sources: the files; a relative path is below agent/.
        kind: PROGRAM or LIBRARY.
    """
    command = [sys.executable, "-m", "ziglang", "cc", *_OPTIONS, _STRIPPED, *_SANITIZED, *kind, "-o", made]
    subprocess.run([*command, *(AGENT / source for source in sources)], check=True)
    return made
