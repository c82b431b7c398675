"""The access keys of all accounts, read from the server's database: a change counts from the next request on."""

from __future__ import annotations

import threading
from pathlib import Path

from emberbox.control.access.artifact_reader import KEY_ID, reader_credential
from emberbox.control.access.identities import Identities
from emberbox.control.access.vault import Vault
from emberbox.model.iam.access import Credential
from emberbox.store.access import AccessStore
from emberbox.store.database import Database
from emberbox.store.schema import metadata


class KeyRing:
    """Finds credentials.

    Args:
        home: the state directory.
        database_url: where accounts and keys are.
        operator_account: the account of the first key.

    Raises:
        HostError: the database cannot be read.
    """

    def __init__(self, home: Path, database_url: str, operator_account: str) -> None:
        self._database = Database(database_url, metadata)
        self._reader = reader_credential(home, operator_account)
        self._lock = threading.Lock()
        self._seen = self._database.change_counter()
        vault = Vault(home / "secrets" / "access.key")
        self._identities = Identities(AccessStore(self._database), vault, operator_account)

    def find(self, access_key_id: str, token: str | None) -> Credential | None:
        """Return the credential of a key that may sign now.

        Raises:
            HostError: the database cannot be read.
        """
        if access_key_id == KEY_ID:
            return self._reader if token is None else None
        with self._lock:
            now = self._database.change_counter()
            if now is None or now != self._seen:
                self._identities.reload()
                self._seen = now
            return self._identities.find_credential(access_key_id, token)
