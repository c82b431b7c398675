"""What the adapters have in common; nothing here needs a framework."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from emberbox_sdk.errors import EmberboxError

OUTPUT_BYTES: Final = 10 << 20
"""How much of an output is kept: what a command may write is without bound, and ends in our memory."""

FILE_BYTES_MAX: Final = 256 << 20
"""How large a file may be that is read as a whole; a sparse one has any size that the guest likes."""

TIMED_OUT: Final = 124
"""The exit code of `timeout(1)`."""

PLAIN_WORDS: Final = {"LC_ALL": "C"}
"""Variables with which programs say in English what is wrong."""

_WRITE = 'mkdir -p -- "$(dirname -- "$1")" && exec cat >"$1"'
_APPEND = 'mkdir -p -- "$(dirname -- "$1")" && exec cat >>"$1"'

_MAKE_DIRECTORY = '[ -d "$1" ] || { mkdir -p -- "$1" && chmod 777 -- "$1"; }'


@contextmanager
def framework(extra: str) -> Iterator[None]:
    """Say what to install, where a block that imports a framework finds none.

    Args:
        extra: the SDK's, which installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        error.add_note(f"`pip install 'emberbox-sdk[{extra}]'` installs what is missing")
        raise


def making_directory(path: str) -> list[str]:
    """Return a program for root that makes a directory, in which then everybody may work; one that is there stays."""
    return ["/bin/sh", "-c", _MAKE_DIRECTORY, "sh", path]


def writing(path: str, *, append: bool = False) -> list[str]:
    """Return a program that writes its input to a file, whose mode and owner stay where it is there.

    Missing directories are made. It is a program, and no upload of the data plane's, so that the rights are those of
    the commands beside it.

    Args:
        path: of the file, from the program's directory.
        append: write behind what is there.
    """
    return ["/bin/sh", "-c", _APPEND if append else _WRITE, "sh", path]


def as_input(data: bytes) -> str | bytes:
    """Return data as `Sandbox.run` sends it soonest: text, where it is some, needs no connection of its own."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def merged(shell: Sequence[str], command: str) -> list[str]:
    """Return a program that runs a command with both outputs in one, in the order in which they were written.

    Args:
        shell: program and options that a command is given to.
        command: a line for it.
    """
    return ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *shell, command]


def too_large(bytes_max: int) -> EmberboxError:
    """Return the error for a file that is larger than it may be."""
    return EmberboxError(f"the file is larger than {bytes_max} bytes", "read it in pieces, by commands")


def with_last_line(text: str, line: str) -> str:
    """Return a text with a line after it."""
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"
