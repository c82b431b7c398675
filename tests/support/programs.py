"""Programs of these tests that run in a guest for good, to be looked at after what happens to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from emberbox.cli.context import get_server
from emberbox_sdk import Client, Sandbox
from support.images import Image
from support.server import Server


@contextmanager
def running(program: ModuleType, server: Server, image: Image) -> Iterator[Sandbox]:
    """Have a sandbox in which a module runs as a program of its own, by the guest's Python.

    Args:
        program: it; what it writes to standard output and error is in `errors(program)`.
        server: of the sandbox.
        image: has Python.
    """
    path = f"/tmp/{_name(program)}.py"
    with Client(get_server(server.home).config()) as client, Sandbox.create(image.name, client=client) as sandbox:
        sandbox.files.write(path, Path(f"{program.__file__}").read_bytes())
        sandbox.run(f"(setsid python3 {path} >{errors(program)} 2>&1 &)")
        yield sandbox


def errors(program: ModuleType) -> str:
    """Return the path, in the guest, of what a program says besides its own files."""
    return f"/tmp/{_name(program)}.error"


def _name(program: ModuleType) -> str:
    return program.__name__.rpartition(".")[2]
