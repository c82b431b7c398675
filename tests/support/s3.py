"""The embedded S3 with a home of its own, without the rest of a server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from emberbox.control.access.artifact_reader import reader_credential
from emberbox.control.access.identities import Identities
from emberbox.control.access.vault import Vault
from emberbox.host.s3_server import S3Settings, start_s3_server
from emberbox.model.iam.access import Account, AttachedPolicy, Credential, PrincipalKind, new_key_id, new_secret
from emberbox.model.iam.policies import FULL_ACCESS_DOCUMENT
from emberbox.store.access import AccessStore
from emberbox.store.database import Database
from emberbox.store.schema import metadata

OPERATOR = "000000000000"
REGION = "us-east-1"


@dataclass
class Home:
    """A home with accounts and keys, as a server makes it."""

    path: Path
    store: AccessStore
    vault: Vault
    identities: Identities
    operator: Credential

    @classmethod
    def make(cls, path: Path) -> Home:
        path.mkdir(parents=True, exist_ok=True)
        store = AccessStore(Database(f"sqlite:///{path / 'emberbox.db'}", metadata))
        vault = Vault(path / "secrets" / "access.key")
        identities = Identities(store, vault, OPERATOR)
        operator = Credential(new_key_id("AKIA"), new_secret(), OPERATOR)
        identities.adopt(operator.access_key_id, operator.secret_access_key, datetime.now(UTC))
        return cls(path, store, vault, identities, operator)

    def settings(self, **more: Any) -> S3Settings:
        values = {
            "home": self.path,
            "state_directory": self.path / "runtime" / "s3",
            "database_url": f"sqlite:///{self.path / 'emberbox.db'}",
            "account_id": OPERATOR,
            "region": REGION,
            "domain": "ember.test",
            "probe": reader_credential(self.path, OPERATOR),
        }
        return S3Settings(**values | more)

    def add_user(self, account_id: str, name: str = "admin", policy: str | None = FULL_ACCESS_DOCUMENT) -> Credential:
        """Make a user with a key, and the account where it is missing."""
        now = datetime.now(UTC)
        self.store.add_account(Account(account_id, f"account {account_id}", now))
        key = self.identities.new_key(account_id, name, now)
        self.store.put_key(key)
        if policy is not None:
            self.store.put_policy(AttachedPolicy(account_id, PrincipalKind.USER, name, "test", policy, now))
        self.identities.reload()
        return Credential(key.id, self.identities.secret_of(key), account_id, name=name)


@dataclass
class World:
    """A running S3."""

    home: Home
    endpoint_url: str

    @property
    def port(self) -> int:
        return int(self.endpoint_url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        pid: int = json.loads((self.home.path / "runtime" / "s3" / "s3.pid").read_text())["pid"]
        return pid

    def client(self, credential: Credential | None = None, *, endpoint: str | None = None, **config: Any) -> Any:
        who = credential or self.home.operator
        config = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}} | config
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=who.access_key_id,
            aws_secret_access_key=who.secret_access_key,
            aws_session_token=who.session_token,
            config=Config(**config),
        )


@contextlib.asynccontextmanager
async def serve_s3(path: Path, **settings: Any) -> AsyncIterator[World]:
    """Serve S3 on a home for as long as the block lasts."""
    home = Home.make(path)
    async with start_s3_server(home.settings(**settings)) as server:
        yield World(home, server.endpoint_url)
