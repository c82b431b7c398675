"""Saved state of a sandbox: three files of gVisor's, whole each time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from emberbox.model.errors import VmmError
from emberbox.vmm.base import Saved
from emberbox.vmm.engine import Engine

_FORM: Final = "gvisor"
_NEW: Final = ".new"
_STEP_BYTES: Final = 8 << 20
"""More than gVisor writes at once: a write of no more than that has failed where there is no room for it."""


@dataclass(frozen=True, slots=True)
class StateNames:
    """What the files are called, in the order in which gVisor takes them: kernel, where its pages are, the pages."""

    state: str
    metadata: str
    pages: str

    def all(self) -> tuple[str, str, str]:
        """Return them in order."""
        return (self.state, self.metadata, self.pages)


BASE: Final = StateNames("state", "memory.index", "memory.pages")
OWN: Final = StateNames("state.own", "memory.own.index", "memory.own.pages")


def saved(directory: Path, names: StateNames, engine: Engine | None) -> Saved:
    """Return the description of state that is in a directory."""
    return Saved(directory, names.all(), {"form": _FORM}, engine)


def names_of(state: Saved) -> StateNames:
    """Return which files are which.

    Raises:
        VmmError: they are of another engine.
    """
    for names in (BASE, OWN):
        if set(names.all()) == set(state.names) and state.details.get("form") == _FORM:
            return names
    raise VmmError(f"the state in {state.directory.name} is none of gVisor's")


@contextlib.contextmanager
def new_files(directory: Path, names: StateNames) -> Iterator[tuple[int, int, int]]:
    """Open new files to save into; they have their names after the block, and are gone where it fails.

    Those of before may have other names too, and are not written to.

    Raises:
        OSError: the disk is full.
    """
    paths = [directory / f"{name}{_NEW}" for name in names.all()]
    try:
        with contextlib.ExitStack() as opened:
            fds = [_open(opened, path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) for path in paths]
            yield fds[0], fds[1], fds[2]
        for path in paths:
            path.rename(path.with_name(path.name.removesuffix(_NEW)))
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def check_room(*fds: int) -> None:
    """See whether more could be written to files that are being saved to.

    Raises:
        OSError: the disk is full.
    """
    for fd in fds:
        os.posix_fallocate(fd, os.fstat(fd).st_size, _STEP_BYTES)


def open_files(opened: contextlib.ExitStack, state: Saved) -> tuple[int, int, int]:
    """Open saved files to load them.

    Raises:
        OSError: one is missing; VmmError: they are of another engine.
    """
    fds = [_open(opened, state.path(name), os.O_RDONLY) for name in names_of(state).all()]
    return fds[0], fds[1], fds[2]


def _open(opened: contextlib.ExitStack, path: Path, flags: int) -> int:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, fd)
    return fd


def stored_bytes(directory: Path, names: StateNames) -> int:
    """Return how much memory is in saved files."""
    return (directory / names.pages).stat().st_size


class GvisorStates:
    """See `emberbox.vmm.base.SavedStates`. State is whole each time, so files only get a second name."""

    def lay_out(self, base: Saved, directory: Path) -> None:
        """A guest's disk is in its saved state."""

    def rewind(self, base: Saved, directory: Path) -> Saved:
        """Give the base's files the names of a suspend's."""
        return _link(base, directory, OWN)

    def combine(self, base: Saved, own: Saved, directory: Path) -> Saved:  # noqa: ARG002 - the interface's shape
        """Give a suspend's files the names of a base's."""
        return _link(own, directory, BASE)

    def compact(self, base: Saved) -> Saved:
        """There are no layers."""
        return base


def _link(state: Saved, directory: Path, names: StateNames) -> Saved:
    for old, new in zip(names_of(state).all(), names.all(), strict=True):
        os.link(state.path(old), directory / new)
    return saved(directory, names, state.engine)
