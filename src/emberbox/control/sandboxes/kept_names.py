"""Names of sandboxes, of which an account has no two at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from emberbox.model.errors import ConflictError
from emberbox.store.sandboxes import SandboxStore


class KeptNames:
    """Keeps them for sandboxes that are being made.

    Args:
        store: has the names of those that are there.
    """

    def __init__(self, store: SandboxStore) -> None:
        self._store = store
        self._kept: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def keep(self, account_id: str, name: str) -> Iterator[None]:
        """Let nobody else take a name for as long as the block lasts; an empty one is none.

        Raises:
            ConflictError: a sandbox has it.
        """
        kept = (account_id, name)
        if name and (kept in self._kept or self._store.find_named(*kept) is not None):
            raise ConflictError(f"name: there is a sandbox {name} already; delete it, or choose another name")
        if name:
            self._kept.add(kept)
        try:
            yield
        finally:
            self._kept.discard(kept)
