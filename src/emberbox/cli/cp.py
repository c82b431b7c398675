"""`emberbox cp`: files and trees to a microVM, and from one."""

from __future__ import annotations

from typing import Annotated

import typer

from emberbox.cli.context import Server, get_server
from emberbox.cli.progress import waiting
from emberbox.cli.sandboxes import opened
from emberbox.model.errors import HostError
from emberbox.settings import load


def cp(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A local path, or MICROVM:PATH.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="A local path, or MICROVM:PATH.")],
    user: Annotated[str | None, typer.Option("--user", "-u", help="Whose rights count there; else root's.")] = None,
) -> None:
    """Copy a file or a tree to a microVM or from it: into a directory that is there, or else to this very name."""
    theirs, ours = split(source), split(destination)
    if (theirs is None) == (ours is None):
        raise HostError("one of the two is in a microVM, written MICROVM:PATH; a local name with a colon, ./NAME")
    server = get_server(load().home)
    if ours is not None:
        upload(server, ours[0], source, ours[1], user)
    elif theirs is not None:
        download(server, theirs[0], theirs[1], destination, user)


def split(argument: str) -> tuple[str, str] | None:
    """Return microVM and path; None for a local path.

    Raises:
        HostError: the path is missing.
    """
    microvm, colon, path = argument.partition(":")
    if not colon or not microvm or "/" in microvm or microvm.startswith("."):
        return None
    if not path:
        raise HostError(f"{argument}: which path? {microvm}:/ is the root of the container")
    return microvm, path


def upload(server: Server, microvm: str, source: str, path: str, user: str | None) -> None:
    """Copy a local file or tree into a microVM.

    Raises:
        HostError: it cannot be read here, or not be written there.
    """
    try:
        with opened(server, microvm) as sandbox, waiting(f"copying {source}") as on_bytes:
            sandbox.files.upload(source, path, user=user, owners=True, on_bytes=on_bytes)
    except FileNotFoundError as error:
        raise HostError(f"{error.filename}: there is no such file here") from error
    except PermissionError as error:
        raise HostError(f"{error.filename}: you may not read it") from error


def download(server: Server, microvm: str, path: str, destination: str, user: str | None) -> None:
    """Copy a file or tree of a microVM here.

    Raises:
        HostError: it cannot be read there, or not be written here.
    """
    try:
        with opened(server, microvm) as sandbox, waiting(f"copying {path}") as on_bytes:
            sandbox.files.download(path, destination, user=user, into=False, owners=True, on_bytes=on_bytes)
    except OSError as error:
        if error.strerror is None:  # the SDK's own, which says what it is
            raise
        raise HostError(f"{error.filename or destination}: {error.strerror}") from error
